// Evaluate: what was measured, with its errors; every answer with its prompt and probabilities; models before and after each stage.
import { weighed } from "./inside.js";
import { ask, el, figure, fileLink, link, nothing, number, percent, post, prose, query, select, table } from "./parts.js";

export async function evaluate({ box }, chosen) {
  if (!chosen) {
    const known = await ask("/api/evaluations");
    box.replaceChildren(el("h1", { text: "Evaluate" }), known.length ? table(["measurement", "of", "", "figure"], known.map((one) => [
      link(one.reference), el("div", {}, one.models.map((model) => el("div", {}, link(model)))), one.figures[0] ? `${one.figures[0].of}: ${one.figures[0].figure}` : "", one.figures[0] ? figure(one.figures[0]) : "–"]), [3])
      : nothing("Nothing has been measured in this store yet; add Evaluate or Assess to a recipe, or put a task to a model:", "bloomery eval Train/chat recipes/tasks/tales.py"));
    return;
  }
  const said = await query("/api/evaluation", { ref: chosen });
  box.replaceChildren(el("h1", { text: chosen }), el("p", { class: "row" }, el("a", { href: "#/evaluate", text: "All measurements" }), el("span", { class: "dim", text: "of" }), said.models.map((model) => link(model)),
    said.page ? fileLink(chosen, said.page, "Its page") : null));
  if (said.tables) { box.append(...alignment(said)); return; }
  box.append(el("h2", { text: "Figures" }), figures(said.figures), ...beside(said), el("h2", { text: "Answers" }), ...answers(chosen, said));
}

function figures(list) {
  return el("div", {}, table(["of", "figure", "value", "items"], list.map((one) => [one.of, one.figure, bar(one), number(one.n)]), [3]), el("p", { class: "dim", text: "± is the standard error." }));
}

function bar(one) {
  const share = one.unit === "%" && one.value !== null ? el("span", { class: "share", "aria-hidden": "true" }, el("i", { style: `width: ${100 * Math.min(1, Math.max(0, one.value))}%` })) : null;
  return el("span", { class: "row" }, el("span", { class: "number", text: figure(one) }), share);
}

function beside(said) {
  if (!said.beside?.length) return [];
  return [el("h2", { text: "Beside others that were asked the same" }), table(["measurement", "of", "right", "this one is ahead by", ""], said.beside.map((one) => [
    link(one.reference), el("div", {}, one.models.map((model) => link(model))), percent(one.value), figure(one.less), one.sure ? "" : "may be chance"]), [2, 3])];
}

function answers(ref, said) {
  const only = select("only", [["wrong", "wrong"], ["right", "right"], ["", "all"]], "wrong"), group = select("group", [["", "of any kind"], ...said.groups.map((name) => [name, name])], "");
  const words = el("input", { id: "words", type: "search", placeholder: "words in it" }), list = el("div"), count = el("p", { class: "dim", role: "status" });
  const more = el("button", { type: "button", text: "More", onclick: () => update(list.children.length) });
  let due, asked = 0;
  async function update(start = 0) {
    const own = ++asked;
    try {
      const found = await query("/api/answers", { ref, only: only.value, group: group.value, search: words.value, start });
      if (own !== asked) return;
      if (!start) list.replaceChildren();
      list.append(...found.answers.map((one) => answer(ref, one)));
      count.textContent = `${number(found.total)} of ${number(said.answers)} answers`;
      more.hidden = list.children.length >= found.total;
    } catch (error) { if (own === asked) count.textContent = error.message; }
  }
  for (const one of [only, group]) one.addEventListener("change", () => update());
  words.addEventListener("input", () => { clearTimeout(due); due = setTimeout(update, 200); });
  update();
  return [el("div", { class: "row" }, el("label", { for: "only", text: "Those that are" }), only, ...(said.groups.length ? [el("label", { for: "group", text: "and" }), group] : []), el("label", { for: "words", text: "with" }), words), count, list, more];
}

function answer(ref, one) {
  const mark = one.right === null ? "" : one.right ? "right" : "wrong", below = el("div");
  const numbers = Object.entries(one.numbers).map(([name, value]) => `${name.replaceAll("_", " ")} ${number(value)}`).join(" · ");
  const card = el("article", { class: "card" },
    el("div", { class: "row" }, el("code", { class: "dim grow", text: one.id }), one.group ? el("span", { class: "dim", text: one.group }) : null, el("span", { class: one.right ? "good" : "bad", text: mark })),
    one.asked ? prose(one.asked) : null,
    el("dl", { class: "said" }, el("dt", { text: "expected" }), el("dd", {}, prose(one.expected.join(" | ") || "–")), el("dt", { text: "said" }), el("dd", {}, prose(one.said || "nothing"))),
    one.choices.length ? choices(one.choices) : null, one.written && one.written !== one.said ? el("details", {}, el("summary", { text: "All that it wrote" }), prose(one.written)) : null,
    numbers ? el("p", { class: "dim", text: numbers }) : null, below);
  if (ref.startsWith("Evaluate/")) below.append(el("div", { class: "row" }, el("button", { type: "button", class: "small", text: "The whole prompt, with probabilities", onclick: () => whole(ref, one, below) })));
  return card;
}

function choices(list) {
  return el("ul", { class: "choices" }, list.map((one) => el("li", {}, el("span", { class: "share", "aria-hidden": "true" }, el("i", { style: `width: ${100 * one.probability}%` })), el("span", { class: "number", text: percent(one.probability) }), el("span", { class: "text", text: one.text }))));
}

async function whole(ref, one, below) {  // what it was told before, and how likely the model finds each token of both answers
  below.replaceChildren(el("p", { class: "dim", text: "Asking the model …" }));
  try {
    const asked = await query("/api/question", { ref, id: one.id }), texts = [one.expected[0], one.said].filter(Boolean);
    const said = await post("/api/weigh", { model: asked.model, messages: asked.messages, answers: texts });
    below.replaceChildren(el("div", { class: "talk", tabindex: "0", role: "region", "aria-label": "The conversation before" }, asked.messages.map((message) => el("div", { class: "turn" }, el("p", { class: "who dim", text: message.role }), el("p", { class: "text", text: message.content })))),
      ...said.answers.map((tokens, i) => {
        const list = weighed(texts[i]), all = tokens.reduce((sum, token) => sum + Math.log(Math.max(token.p, 1e-30)), 0);
        list.add(tokens);
        return el("div", {}, el("p", { class: "who dim", text: `${i === 0 && one.expected[0] ? "expected" : "said"}: log p ${number(all)}` }), list.box);
      }),
      el("a", { href: `#/chat/${encodeURIComponent(asked.model)}`, text: "Ask it in Chat", onclick: () => sessionStorage.setItem("chat", JSON.stringify({ model: asked.model, messages: asked.messages })) }));
  } catch (error) { below.replaceChildren(el("p", { class: "bad", text: error.message })); }
}

function alignment(said) {
  const parts = said.tables.flatMap(({ probe, rows: [head, ...rows] }) => [el("h2", { text: probe }), table(head, rows, head.map((_, i) => i).slice(1))]);
  const examples = said.examples.map((one) => {
    const names = Object.keys(one.rows[0]);
    return el("details", {}, el("summary", { text: `${one.model}: ${one.probe}, to be read (${number(one.rows.length)})` }), table(names, one.rows.map((row) => names.map((name) => row[name]))));
  });
  return [el("p", { class: "dim", text: "Each model in the order in which it was made; what has changed is the last less the first." }), ...parts, ...(examples.length ? [el("h2", { text: "To be read" }), ...examples] : [])];
}
