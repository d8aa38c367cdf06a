// Data: what a corpus was made of: its funnel, what was dropped and why, other thresholds, repetitions, test items, and who reads it.
import { ask, bytes, cards, el, field, marked, nothing, number, percent, query, runLink, select, table } from "./parts.js";

const KINDS = [["dropped", "dropped"], ["documents", "kept"], ["held_out", "held out"]];
const COLOURS = ["#1f6feb", "#d9730d", "#2e9e5b", "#8b5cf6", "#c2255c", "#0c8599", "#a16207", "#5b6570"];

export async function data({ box }, chosen) {
  const known = await ask("/api/corpora");
  if (!chosen) {
    box.replaceChildren(el("h1", { text: "Data" }), known.length ? table(["corpus", "read", "kept", "held out", "dropped", "size"], known.map((one) => [
      el("a", { href: `#/data/${encodeURIComponent(one.reference)}`, text: one.reference }), number(one.read), number(one.kept), number(one.held_out),
      number(one.read - one.kept - one.held_out), bytes(one.bytes)]), [1, 2, 3, 4, 5]) : nothing("No corpus has been prepared in this store yet. A folder of raw text becomes one:", "bloomery run recipes/refinery.py --source FOLDER"));
    return;
  }
  const said = await query("/api/corpus", { ref: chosen });
  box.replaceChildren(el("h1", { text: chosen }), el("p", {}, el("a", { href: "#/data", text: "All corpora" })), cards(said.figures),
    el("h2", { text: "Funnel" }), funnel(said), el("h2", { text: "Thresholds" }), ...thresholds(chosen, said),
    el("h2", { text: "Documents" }), ...documents(chosen, said), el("h2", { text: "Repetitions" }), ...repetitions(chosen, said),
    el("h2", { text: "Test items that were met" }), items(said), el("h2", { text: "Who reads it" }), ...mixtures(said));
}

function funnel(said) {
  if (!said.funnel.length) return el("p", { text: "No filter stood here: everything that was read was kept. Prepare(filters=…) has some." });
  const whole = Math.max(1, said.funnel[0].came);
  return el("ol", { class: "funnel" }, said.funnel.map((one) => el("li", {},
    el("div", { class: "row" }, el("b", { text: one.filter }), el("span", { class: "dim", text: `${number(one.came)} came` }), el("span", { class: one.dropped ? "bad" : "dim", text: one.dropped ? `${number(one.dropped)} dropped, ${percent(one.dropped / one.came)}` : "none dropped" }),
      one.rewritten ? el("span", { class: "dim", text: `${number(one.rewritten)} rewritten` }) : null, one.bytes > 0 ? el("span", { class: "dim", text: `${bytes(one.bytes)} less` }) : null),
    el("div", { class: "left", "aria-hidden": "true" }, el("i", { style: `width: ${(100 * one.left) / whole}%` }), el("i", { class: "goes", style: `width: ${(100 * one.dropped) / whole}%` })),
    one.told || one.bounds.length ? el("p", { class: "dim", text: [one.told, one.bounds.length ? `Here: ${one.bounds.join(", ")}.` : "", one.source ? `Source: ${one.source}.` : ""].filter(Boolean).join(" ") }) : null)));
}

function thresholds(ref, said) {
  if (!said.measures.length) return [el("p", { text: "No filter of this corpus has measured anything, so there is no threshold to move." })];
  return [el("p", { class: "dim", text: "What would stay under another threshold, from what was measured; what later filters would say of more documents is not known." }),
    el("div", { class: "plots" }, said.measures.map((one, i) => threshold(ref, one, i)))];
}

function threshold(ref, measure, i) {
  const n = measure.edges.length, [low, high] = measure.chosen, most = Math.max(1, ...measure.bars);
  const bars = el("div", { class: "bars", "aria-hidden": "true" }, measure.bars.map((count) => el("i", { style: `height: ${count ? Math.max(2, (100 * count) / most) : 0}%` })));
  const end = (name, value) => ({ input: el("input", { id: `${name}${i}`, type: "range", min: 0, max: n, value, oninput: show, class: "grow" }), output: el("output", { for: `${name}${i}` }) });
  const from = end("low", low), to = end("high", high), result = el("p", { "aria-live": "polite" }), margin = el("div");
  const pass = (a, b) => measure.unmeasured + Math.max(0, (b === n ? measure.total : measure.upto[b]) - (a === 0 ? 0 : measure.below[a - 1]));
  const now = pass(low, high), short = (x) => number(+x.toPrecision(4));
  function bounds() {
    const [a, b] = [Number(from.input.value), Number(to.input.value)];
    return { a, b, low: a === 0 ? "" : measure.edges[a - 1], high: b === n ? "" : measure.edges[b] };
  }
  function show() {
    const { a, b, low, high } = bounds(), then = pass(a, b);
    from.output.textContent = low === "" ? "no bound" : short(low);
    to.output.textContent = high === "" ? "no bound" : short(high);
    for (const one of [from, to]) one.input.setAttribute("aria-valuetext", one.output.textContent);
    [...bars.children].forEach((bar, k) => bar.classList.toggle("goes", k < a || k > b));
    const change = then - now;
    result.textContent = `${percent(then / Math.max(1, measure.reached))} of ${number(measure.reached)} would pass this filter, ${change === 0 ? "as now" : `${number(Math.abs(change))} ${change > 0 ? "more" : "fewer"} than now`}.`;
  }
  const at = el("button", { type: "button", text: "Documents at the margin", onclick: async () => {
    const { low, high } = bounds();
    try {
      const found = await query("/api/margin", { ref, measure: measure.measure, low, high });
      margin.replaceChildren(...(found.examples.length ? found.examples.map((one) => card(ref, one, `${measure.measure} ${short(one.value)}`)) : [el("p", { text: "No document would change sides." })]));
    } catch (error) { margin.replaceChildren(el("p", { class: "bad", text: error.message })); }
  } });
  show();
  return el("figure", { "aria-label": measure.measure }, el("figcaption", {}, el("span", { text: measure.measure }), at), bars,
    el("div", { class: "ends dim" }, el("span", { text: short(measure.edges[0]) }), el("span", { text: short(measure.edges[n - 1]) })),
    field(`low${i}`, "at least", from.input, from.output), field(`high${i}`, "at most", to.input, to.output), result, margin);
}

function documents(ref, said) {
  const list = el("div", { "aria-live": "polite" }), droppers = said.funnel.filter((one) => one.dropped).map((one) => [one.filter, one.filter]);
  const kind = select("kind", KINDS, said.texts ? "dropped" : "documents"), filter = select("filter", [["", "any filter"], ...droppers], "");
  const words = el("input", { id: "words", type: "search", placeholder: "words in the text" });
  let seed = 0, due, asked = 0;
  async function update() {
    const own = ++asked;
    filter.disabled = kind.value !== "dropped";
    const search = words.value, [name, what] = KINDS.find(([one]) => one === kind.value);
    try {
      const found = await query("/api/documents", { ref, kind: name, filter: filter.disabled ? "" : filter.value, search, seed });
      if (own !== asked) return;
      const told = `${number(found.documents.length)} of ${number(found.total)} that were ${what}${search ? ` and have “${search}” in them` : ""}, at random.`;
      list.replaceChildren(el("p", { class: "dim", text: found.total ? told : search ? `No document that was ${what} has “${search}” in it.` : `No document was ${what}.` }), ...found.documents.map((one) => card(ref, one)));
    } catch (error) { if (own === asked) list.replaceChildren(el("p", { class: "bad", text: error.message })); }
  }
  for (const one of [kind, filter]) one.addEventListener("change", update);
  words.addEventListener("input", () => { clearTimeout(due); due = setTimeout(update, 200); });
  update();
  return [el("div", { class: "row" }, el("label", { for: "kind", text: "Those that were" }), kind, el("label", { for: "filter", text: "by" }), filter, el("label", { for: "words", text: "with" }), words,
    el("button", { type: "button", text: "Others", onclick: () => { seed += 1; update(); } })), list];
}

function why(said) {
  if (!said) return "";
  const value = said.value === null ? "" : said.threshold === null ? ` (${number(said.value)})` : ` (${number(said.value)} against ${number(said.threshold)})`;
  return `${said.filter}: ${said.reason}${value}`;
}

function card(ref, one, head = "") {
  const story = el("div");
  const more = el("button", { type: "button", class: "small", text: "Its story", onclick: async () => {
    if (story.firstChild) { story.replaceChildren(); return; }
    try { story.replaceChildren(...told(await query("/api/story", { ref, id: one.id }))); }
    catch (error) { story.replaceChildren(el("p", { class: "bad", text: error.message })); }
  } });
  return el("article", { class: "card" }, el("div", { class: "row" }, el("code", { class: "dim grow", text: one.id }), el("span", { class: one.where === "dropped" ? "bad" : "good", text: one.where }), more),
    head || one.why ? el("p", { text: [head, why(one.why)].filter(Boolean).join(" · ") }) : null, marked(one.pieces), story);
}

function told(said) {
  const measures = Object.entries(said.measures).map(([name, value]) => `${name} ${number(value)}`).join(", ");
  return [el("ol", { class: "steps" }, said.steps.map((one) => el("li", {}, el("b", { text: one.filter }), el("span", { class: one.what === "drop" ? "bad" : "dim", text: ` ${one.what}` }), one.why ? el("span", { text: `: ${one.why}` }) : null))),
    measures ? el("p", { class: "dim", text: measures }) : null, said.repeats.length ? el("p", { text: `Dropped as repetitions of it: ${said.repeats.join(", ")}` }) : null, said.text.length ? marked(said.text) : null].filter(Boolean);
}

function repetitions(ref, said) {
  if (!said.repeats) return [el("p", { text: "No document was dropped as a repetition; ExactDuplicates and MinHash among the filters of a Prepare look for them." })];
  const list = el("div");
  let seed = 0;
  async function update() {
    try {
      const found = await query("/api/pairs", { ref, seed });
      list.replaceChildren(el("p", { class: "dim", text: `${number(found.pairs.length)} of ${number(found.total)}; words that the other one lacks are marked.` }), ...found.pairs.map((pair) => el("article", { class: "card" },
        el("p", { style: "margin-top: 0", text: why(pair.why) }), el("div", { class: "side" },
          [["dropped", pair.id], ["stayed", pair.of]].map(([what, id], k) => el("div", {}, el("p", { class: "dim", text: `${what} · ${id}` }), marked(pair.sides[k])))))));
    } catch (error) { list.replaceChildren(el("p", { class: "bad", text: error.message })); }
  }
  update();
  return [el("button", { type: "button", text: "Other pairs", onclick: () => { seed += 1; update(); } }), list];
}

function items(said) {
  if (!said.leaks.length) return el("p", { text: "None was met in any document. Decontaminate among the filters of a Prepare looks for them." });
  return el("div", {}, el("p", { class: "dim", text: `${number(said.leak_total)} in all, the most frequent first.` }),
    table(["item", "dropped", "rewritten", "first documents"], said.leaks.map((one) => [one.item, number(one.dropped), number(one.rewritten), one.ids.join(", ")]), [1, 2]));
}

function mixtures(said) {
  if (!said.mixtures.length) return [el("p", { text: "No finished training of this store reads it." })];
  return said.mixtures.map((one) => el("div", { class: "card" }, el("p", { style: "margin-top: 0" }, runLink(one.reference)), one.phases.map((phase) => {
    const shares = Object.entries(phase.shares);
    return el("div", {}, one.phases.length > 1 ? el("p", { class: "dim", text: `from row ${number(phase.from)} on` }) : null,
      el("div", { class: "memory", "aria-hidden": "true" }, shares.map(([, share], k) => el("i", { style: `width: ${100 * share}%; background: ${COLOURS[k % COLOURS.length]}` }))),
      el("ul", { class: "legend" }, shares.map(([name, share], k) => el("li", {}, el("i", { style: `background: ${COLOURS[k % COLOURS.length]}` }), ` ${name} `, el("span", { class: "dim", text: percent(share) })))));
  })));
}
