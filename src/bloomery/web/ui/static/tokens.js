// Tokens: a text, or a conversation, as each tokenizer of the store sees it.
import { ask, cards, el, nothing, number, post, select } from "./parts.js";
import { batches, pieces } from "./run.js";

const TEXT = "The smith heated 1,200 nails — “hot!” — and went home.";
const TALK = [{ role: "user", content: "Is the iron hot?" }, { role: "assistant", content: "It is." }];

export async function tokens({ box }) {
  const [known, home] = await Promise.all([ask("/api/tokenizers"), ask("/api/home")]);
  if (!known.length) {
    box.replaceChildren(el("h1", { text: "Tokens" }), nothing("No tokenizer has been made in this store yet. This makes one, and a model:", "bloomery run recipes/quickstart.py"));
    return;
  }
  const text = el("textarea", { id: "text", spellcheck: "false" }), result = el("div", { class: "side", "aria-live": "polite" });
  text.value = TEXT;
  const talk = el("input", { type: "checkbox", id: "talk", onchange: () => {
    text.value = talk.checked ? JSON.stringify(TALK, null, 1) : TEXT;
    update();
  } });
  const chosen = known.map((one, i) => el("label", {}, el("input", { type: "checkbox", value: one.reference, checked: i < 2, onchange: update }), ` ${one.reference} (${number(one.vocab_size ?? 0)})`));
  let due, asked = 0;
  text.addEventListener("input", () => { clearTimeout(due); due = setTimeout(update, 150); });

  async function update() {
    const own = ++asked, tokenizers = chosen.map((label) => label.querySelector("input")).filter((one) => one.checked).map((one) => one.value);
    try {
      const body = talk.checked ? { tokenizers, messages: JSON.parse(text.value) } : { tokenizers, text: text.value };
      const said = await post("/api/tokens", body);
      if (own === asked) result.replaceChildren(...tokenizers.map((reference) => column(reference, said[reference])));
    } catch (error) {
      if (own === asked) result.replaceChildren(el("p", { class: "bad", text: error.message }));
    }
  }
  box.replaceChildren(el("h1", { text: "Tokens" }), el("label", { for: "text", text: "Text" }), text,
    el("div", { class: "row", style: "margin: .5rem 0 1rem" }, el("label", {}, talk, " as a conversation (JSON): grey is not learnt, boxed are control tokens"), chosen), result, el("h2", { text: "The batch of a step" }), ...read(home));
  await update();
}

function read(home) {  // what a training has read, token by token
  const done = [...home.recipes.flatMap((recipe) => recipe.stages), ...home.others].filter((one) => one.stage === "Train" && one.status === "done").map((one) => one.reference);
  if (!done.length) return [el("p", { text: "No training of this store is done yet." })];
  const of = select("of", [...new Set(done)].map((one) => [one, one]), done.at(-1));
  return [batches(() => of.value, null, el("label", { for: "of", text: "of" }), of)];
}

function column(reference, said) {
  const figures = [[number(said.tokens), "tokens"]];
  if (said.characters !== undefined) figures.push([said.tokens ? number(said.characters / said.tokens) : "–", "characters a token"], [said.tokens ? number(said.bytes / said.tokens) : "–", "bytes a token"]);
  if (said.learnt !== undefined) figures.push([number(said.learnt), "of them learnt"]);
  return el("section", { class: "card", "aria-label": reference }, el("h3", {}, el("code", { text: reference })), cards(figures), pieces(said.pieces),
    el("details", {}, el("summary", { text: "Ids" }), el("p", { class: "mono", text: said.pieces.map((piece) => piece.id).join(" ") })));
}
