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

export function post(path, body) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export function query(path, asked) {
  return ask(`${path}?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== "" && value !== null && value !== undefined))}`);
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

// By what the curves of a run may be drawn.
export function axes(draw) {
  return select("axis", [["step", "by step"], ["tokens", "by tokens"], ["time", "by time"]], "step", { onchange: (event) => draw(event.target.value) });
}

export function number(value) {
  if (typeof value !== "number") return visible(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(4)).toString();
}

export function percent(value, digits = 1) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`;
}

export function figure({ value, error, unit }) {  // with its standard error, where that is known
  const share = unit === "%", shown = value === null ? "–" : share ? percent(value) : number(value);
  return error === null || error === undefined ? shown : `${shown} ± ${share ? (100 * error).toFixed(1) : number(error)}`;
}

export function select(id, options, value, attributes = {}) {
  return el("select", { id, ...attributes }, options.map(([name, text]) => el("option", { value: name, text, selected: name === value })));
}

export function slider(id, min, max, step, value, of, told) {  // its output says what `of` makes of the place
  const output = el("output", { for: id }), input = el("input", { id, type: "range", min, max, step, value, class: "grow" });
  const show = () => { output.textContent = told(of(Number(input.value))); input.setAttribute("aria-valuetext", output.textContent); };
  input.addEventListener("input", show);
  show();
  return { input, output, value: () => of(Number(input.value)) };
}

export function field(id, text, ...parts) {
  return el("div", {}, el("label", { for: id, text }), el("div", { class: "row" }, parts));
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

const PAGES = { Train: "run", Prepare: "data", Evaluate: "evaluate", Assess: "evaluate", Examine: "evaluate", Alignment: "evaluate" };
export function link(reference) {  // to the page that shows an artifact; its name alone where there is none
  const page = PAGES[reference.split("/")[0]];
  return page ? el("a", { href: `#/${page}/${encodeURIComponent(reference)}`, text: reference }) : el("code", { text: reference });
}

const SHOWN = /\.(html|svg|txt|md|json|jsonl)$/;
export function fileLink(reference, name, text = name) {
  const path = [...reference.split("/"), ...name.split("/")].map(encodeURIComponent).join("/");
  return SHOWN.test(name) ? el("a", { href: `/file/${path}`, target: "_blank", rel: "noopener", text }) : name;
}

const LONG = 1500;  // characters, from which on a text has a window of its own, which keys can scroll
export function prose(text) {
  return el("p", text.length > LONG ? { class: "text long", tabindex: "0", text } : { class: "text", text });
}

export function marked(pieces) {  // [text, kind]: "mark" for what is meant, "gap" for what is left out
  return el("p", { class: "text" }, pieces.map(([text, kind]) => (kind === "mark" ? el("mark", { text }) : el("span", { class: kind === "gap" ? "dim" : null, text }))));
}

export function here() {  // what a command needs to find this store
  const { store } = document.body.dataset;
  return store === "store" ? "" : ` --store ${/^[\w@%+=:,./-]+$/.test(store) ? store : `'${store.replaceAll("'", "'\\''")}'`}`;
}

export function nothing(text, ...lines) {  // why a page is empty, and what would fill it
  return el("div", {}, el("p", { text }), lines.map((line) => command(line + here())));
}

export function command(line) {
  const said = el("button", { type: "button", text: "Copy", onclick: async () => {
    await navigator.clipboard.writeText(line);
    said.textContent = "Copied";
    setTimeout(() => { said.textContent = "Copy"; }, 1500);
  } });
  return el("div", { class: "row command" }, el("pre", { class: "grow", tabindex: "0", text: line }), said);
}
