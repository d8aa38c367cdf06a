// What all pages are made of. Text from the store is only ever put in as text.

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = visible(value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Control characters, and those that turn or hide lines, as signs that are seen.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
export function visible(text) {
  return String(text).replace(UNSEEN, (sign) => (sign < " " ? String.fromCharCode(0x2400 + sign.charCodeAt(0)) : "\ufffd"));
}

export async function ask(path, options) {
  const response = await fetch(path, options);
  const said = await response.json();
  if (!response.ok) throw new Error(said.error || response.statusText);
  return said;
}

export function seconds(s) {
  if (s < 1) return `${Math.round(1000 * s)} ms`;
  if (s < 100) return `${s.toFixed(1)} s`;
  const minutes = Math.floor(s / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(s % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return `${n < 10 && at ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export function number(value) {
  if (typeof value !== "number") return visible(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(4)).toString();
}

export function cards(figures) {
  return el("div", { class: "cards" }, figures.map(([value, what]) => el("div", {}, el("b", { text: value }), el("span", { text: what }))));
}

export function table(head, rows, figures = []) {
  const cell = (tag, place, content) => {
    const made = el(tag, figures.includes(place) ? { class: "figure" } : {});
    made.append(content instanceof Node ? content : document.createTextNode(visible(content)));
    if (tag === "th") made.scope = "col";
    return made;
  };
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": head.join(", ") }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((content, i) => cell("th", i, content)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((content, i) => cell("td", i, content)))))));
}

export function runLink(reference, text = reference) {
  return el("a", { href: `#/run/${encodeURIComponent(reference)}`, text });
}

export function command(line) {
  const said = el("button", { type: "button", text: "Copy", onclick: async () => {
    await navigator.clipboard.writeText(line);
    said.textContent = "Copied";
    setTimeout(() => { said.textContent = "Copy"; }, 1500);
  } });
  return el("div", { class: "row" }, el("pre", { class: "grow", text: line }), said);
}
