// Inside a model: how likely each token was, what each layer would say, and where attention looks.
import { el, percent, post, select } from "./parts.js";

const shown = (text) => (text === "" ? "∅" : text.replaceAll("\n", "↵\n"));

// The mouse, or the arrow keys from where `at()` says on, point to one of the tokens in a list.
function pointed(list, at, point) {
  list.addEventListener("mouseover", (event) => { const i = [...list.children].indexOf(event.target); if (i >= 0) point(i); });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !list.children.length) return;
    event.preventDefault();
    point(Math.max(0, Math.min(list.children.length - 1, at() + step)));
  });
}

// Tokens by how likely they were: {text, p, likely}. The mouse, or the arrow keys, go from one to the next; what else was likely stands below.
export function weighed(label) {
  const list = el("div", { class: "weighed", tabindex: "0", role: "group", "aria-label": `${label}: arrow keys tell how likely each token was` });
  const told = el("p", { class: "told dim", "aria-live": "polite", text: "\u00a0" }), tokens = [];
  let at = -1;
  function point(i) {
    list.children[at]?.classList.remove("here");
    at = i;
    list.children[at]?.classList.add("here");
    const one = tokens[at];
    const others = (one?.likely ?? []).map(([text, p]) => `${JSON.stringify(text)} ${percent(p)}`).join(" · ");
    told.replaceChildren(one ? el("span", {}, el("b", { text: JSON.stringify(one.text) }), ` ${percent(one.p)}${others ? `; likeliest: ` : ""}`, el("span", { text: others })) : "\u00a0");
  }
  pointed(list, () => at, point);
  const add = (more) => more.forEach((one) => {
    tokens.push(one);
    list.append(el("span", { style: `--p: ${one.p.toFixed(4)}`, class: one.control ? "control" : null, title: percent(one.p), text: one.text }));
  });
  return { box: el("div", {}, list, told), add, count: () => tokens.length };
}

// What a model does while it reads `asked`: {model, messages} or {model, text}.
export async function inside(place, asked) {
  place.replaceChildren(el("p", { class: "dim", text: "Looking …" }));
  try { place.replaceChildren(...views(place, asked, await post("/api/look", asked))); }
  catch (error) { place.replaceChildren(el("p", { class: "bad", text: error.message })); }
}

function views(place, asked, said) {
  const before = said.before ? `, behind ${said.before} others` : "";
  return [el("h2", { text: `Inside ${asked.model}` }), el("p", { class: "dim", text: `The last ${said.pieces.length} tokens that it read${before}.` }),
    el("h3", { text: "What it would say next after each layer" }), lens(said), el("h3", { text: "Where attention looks" }), looks(place, asked, said)];
}

function lens(said) {
  const cell = (words) => el("td", {}, el("span", { class: "word", style: `--p: ${words[0][1]}`, title: words.map(([text, p]) => `${JSON.stringify(text)} ${percent(p)}`).join("\n"), text: shown(words[0][0]) }));
  return el("div", { class: "wide lens", tabindex: "0", role: "region", "aria-label": "What each layer would say next" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "layer" }), said.pieces.map((piece) => el("th", { scope: "col", text: shown(piece.text) })))),
    el("tbody", {}, said.said.map((row) => el("tr", {}, el("th", { scope: "row", text: row.layer }), row.words.map(cell))))));
}

function looks(place, asked, said) {
  if (!said.heads.length) return el("p", { text: "No layer of this model is attention whose weights are known." });
  const layer = select("layer", said.layers.map((name, i) => [String(i), name]), String(said.layer));
  const head = select("head", [["mean", "all heads, on average"], ...said.heads.map((_, i) => [String(i), `head ${i}`])], "mean");
  layer.addEventListener("change", () => inside(place, { ...asked, layer: Number(layer.value) }).then(() => place.querySelector("#layer")?.focus()));
  const list = el("div", { class: "pieces looks", tabindex: "0", role: "group", "aria-label": "Tokens: arrow keys choose one, and those that it looks at are tinted" },
    said.pieces.map((piece) => el("span", { text: shown(piece.text) })));
  const told = el("p", { class: "dim", "aria-live": "polite" }), n = said.pieces.length;
  const map = el("canvas", { width: 8 * n, height: 8 * n, role: "img", "aria-label": "A row for each token that reads, a column for each that is read" });
  let at = n - 1;
  const weights = () => (head.value === "mean" ? said.heads[0].map((row, i) => row.map((_, j) => said.heads.reduce((sum, one) => sum + one[i][j], 0) / said.heads.length)) : said.heads[Number(head.value)]);
  function show() {
    const all = weights(), row = all[at], most = Math.max(...row, 1e-6);
    [...list.children].forEach((span, i) => { span.style.setProperty("--p", (row[i] / most).toFixed(3)); span.classList.toggle("here", i === at); });
    const best = row.map((weight, i) => [weight, i]).sort((a, b) => b[0] - a[0]).slice(0, 3).filter(([weight]) => weight > 0);
    told.textContent = "";
    told.append(el("span", { text: `${JSON.stringify(said.pieces[at].text)} looks at ${best.map(([weight, i]) => `${JSON.stringify(said.pieces[i].text)} ${percent(weight)}`).join(", ")}` }));
    const paint = map.getContext("2d");
    paint.clearRect(0, 0, 8 * n, 8 * n);
    paint.fillStyle = "#1f6feb";  // seen on light and on dark
    all.forEach((row, i) => row.forEach((weight, j) => { paint.globalAlpha = Math.min(1, weight); paint.fillRect(8 * j, 8 * i, 8, 8); }));
  }
  pointed(list, () => at, (i) => { at = i; show(); });
  head.addEventListener("change", show);
  requestAnimationFrame(show);
  return el("div", {}, el("div", { class: "row" }, el("label", { for: "layer", text: "Layer" }), layer, el("label", { for: "head", text: "Head" }), head),
    el("div", { class: "look" }, el("div", {}, list, told), map));
}
