// How a model is to write, as controls: the common ones in sight, the others folded; one that does not apply is disabled, and its group says why.
import { el, field, select, slider } from "./parts.js";

const WAYS = [["drawn", "draw tokens"], ["likeliest", "likeliest token"], ["beams", "beams"], ["contrastive", "contrastive search"]];
const HELD = [["", "nothing"], ["guided_choice", "one of these lines"], ["guided_regex", "a regular expression"], ["guided_json", "a JSON schema"]];
const READ = { guided_choice: (text) => text.split("\n").filter(Boolean), guided_regex: (text) => text, guided_json: JSON.parse };
const UNDRAWN = { likeliest: "Nothing is drawn: the likeliest token is taken.", beams: "Nothing is drawn: the likeliest ways are followed, unless beams draw theirs.", contrastive: "Nothing is drawn by contrastive search." };

// A control: its name in a request, an element with its label, what it says (undefined where that is what is so anyway), and why it does not apply.
function range(name, label, [min, max, step], idle, value, why = () => "") {
  const made = slider(name, min, max, step, value, (x) => x, (x) => String(+x.toFixed(2)));
  return { name, why, inputs: [made.input], box: field(name, label, made.input, made.output), said: () => (made.value() === idle ? undefined : made.value()) };
}

function whole(name, label, value, least, why = () => "", placeholder = null) {
  const input = el("input", { id: name, type: "number", value, min: least, step: 1, class: "grow", placeholder });
  return { name, why, inputs: [input], box: field(name, label, input), said: () => (input.value === "" ? undefined : Number(input.value)) };
}

function chosen(name, label, options, value, why = () => "", read = (it) => it || undefined) {
  const input = select(name, options, value, { class: "grow" });
  return { name, why, inputs: [input], box: field(name, label, input), said: () => read(input.value), value: () => input.value };
}

function ticked(name, label, why = () => "") {
  const input = el("input", { id: name, type: "checkbox" });
  return { name, why, inputs: [input], box: el("div", { class: "row tick" }, input, el("label", { for: name, text: label })), said: () => input.checked || undefined };
}

function worded(name, label, placeholder, read, why = () => "") {
  const input = el("input", { id: name, class: "grow", placeholder });
  return { name, why, inputs: [input], box: field(name, label, input), said: () => (input.value.trim() ? read(input.value.trim()) : undefined) };
}

// `models`: what /api/models tells; smaller ones of the same tokenizer can guess for others.
export function settings(models) {
  const mode = chosen("mode", "What you write is", [["talk", "a conversation"], ["text", "a text’s beginning"]], "talk");
  const way = chosen("way", "How", WAYS, "drawn");
  const draws = ticked("do_sample", "Draw the ways to go on", () => only("beams"));
  const only = (it) => (way.value() === it ? "" : `For ${{ beams: "beams", contrastive: "contrastive search" }[it]}: choose that above.`);
  const undrawn = () => (way.value() === "drawn" || (way.value() === "beams" && draws.said()) ? "" : UNDRAWN[way.value()]);
  const of = (it, more = () => "") => () => only(it) || more();
  const system = worded("system", "System message", "none", (text) => text, () => (mode.value() === "talk" ? "" : "A text’s beginning has no system message."));
  const temperature = range("temperature", "Temperature", [0.05, 2, 0.05], 1, 0.7, undrawn);
  const seed = whole("seed", "Seed", 0, 0, undrawn), most = whole("max_tokens", "Tokens at most", 128, 1);
  const width = range("num_beams", "Texts side by side", [2, 8, 1], null, 4, of("beams"));
  const groups = range("num_beam_groups", "In so many groups", [1, 8, 1], 1, 1, of("beams", () => (draws.said() ? "Groups go with the likeliest ways only." : "")));
  const held = select("held", HELD, "", { class: "grow" }), to = el("textarea", { id: "to", rows: 2, "aria-label": "What it is held to", hidden: true });
  held.addEventListener("change", () => { to.hidden = !held.value; });
  const holds = { name: "held", why: () => "", inputs: [held], box: el("div", {}, field("held", "Held to", held), to), said: () => undefined };
  const layers = chosen("dola_layers", "Less what is said by", [["", "no earlier layer"], ["high", "upper layers"], ["low", "lower layers"], ["some", "these layers:"]], "",
    () => (way.value() === "contrastive" ? "Contrastive search compares what the last layer says." : ""), (it) => (it === "some" ? undefined : it || undefined));
  const some = () => layers.why() || (layers.value() === "some" ? "" : "Numbers are for “these layers”.");
  const smaller = [...new Set(models.flatMap((one) => one.guesses))];
  const guesses = chosen("draft", "What comes next is guessed by", [["", "nobody"], ["Ngram", "what stood before (n-grams)"], ...smaller.map((one) => [one, `${one}, which is smaller`])], "",
    () => (["beams", "contrastive"].includes(way.value()) ? "Searches are not guessed for." : ""));
  const common = [mode, way, temperature, most, seed, system];
  const folded = [
    ["What is drawn", [range("top_p", "Top p: share of probability that is kept", [0.05, 1, 0.05], 1, 1, undrawn), whole("top_k", "Top k: tokens that are kept", "", 1, undrawn, "all"),
      range("min_p", "Min p: how likely beside the likeliest", [0, 0.5, 0.01], 0, 0, undrawn), range("typical_p", "Typical p: share of what is to be expected", [0.05, 1, 0.05], 1, 1, undrawn)]],
    ["What was said", [range("repetition_penalty", "Repetition: it is divided by", [1, 2, 0.05], 1, 1), range("presence_penalty", "Presence: taken off it", [-2, 2, 0.1], 0, 0),
      range("frequency_penalty", "Frequency: taken off each time", [-2, 2, 0.1], 0, 0), whole("no_repeat_ngram_size", "So many tokens never twice in a row", "", 1, () => "", "any"),
      ticked("no_repeat_sentences", "No sentence twice")]],
    ["Beams: the likeliest text of some", [width, range("length_penalty", "Length: above 0 favours long texts", [-2, 3, 0.1], 1, 1, of("beams")),
      chosen("early_stopping", "Done", [["", "when no way is better"], ["true", "with as many whole texts"], ["never", "when none can become better"]], "", of("beams"), (it) => (it === "true" ? true : it || undefined)),
      draws, groups, range("diversity_penalty", "Groups avoid each other by", [0, 2, 0.1], 0, 0, () => groups.why() || (groups.said() ? "" : "There is one group of beams: nothing to avoid."))]],
    ["Contrastive search: little repetition", [range("penalty_alpha", "How much repetition counts", [0.05, 1, 0.05], null, 0.6, of("contrastive")), range("tried", "Tokens that are tried", [2, 8, 1], null, 5, of("contrastive"))]],
    ["Earlier layers (DoLa)", [layers, worded("layers_named", "Layers, from 0", "0, 2, 4", (text) => text.split(/[\s,]+/).map(Number), some),
      range("dola_relative_top", "How likely beside the likeliest", [0.01, 0.5, 0.01], 0.1, 0.1, () => layers.why() || (layers.value() ? "" : "No layer is taken off."))]],
    ["Where it ends, what it may say", [worded("stops", "Ends at", "none; several: a | b; \\n is a new line", (text) => text.split("|").map((one) => one.trim().replaceAll("\\n", "\n")).filter(Boolean)),
      worded("biases", "Added to scores", '{"token id": −100 … 100}', JSON.parse), holds]],
    ["Speed", [guesses]],
  ];
  const NAMES = { stops: "stop", biases: "logit_bias", layers_named: "dola_layers", tried: "top_k" }, ASIDE = new Set(["mode", "way", "system", "draft", "held"]);
  const every = [...common, ...folded.flatMap(([, controls]) => controls)];
  const count = el("span", { class: "dim" });
  const more = el("details", {}, el("summary", { text: "All controls " }, count), el("div", { class: "groups" }, folded.map(([name, controls], i) => {
    const why = el("p", { class: "dim why", id: `why-${i}`, "aria-live": "polite" });
    controls.forEach((one) => { one.told = why; });
    return el("fieldset", {}, el("legend", { text: name }), why, controls.map((one) => one.box));
  })));
  const why = el("p", { class: "dim why", id: "why", "aria-live": "polite" });
  common.forEach((one) => { one.told = why; });
  const box = el("section", { class: "card writes", "aria-label": "How it writes" }, el("h2", { text: "How it writes" }), el("div", { class: "common" }, common.map((one) => one.box)), why, more);

  function refresh() {
    const reasons = new Map();
    for (const one of every) {
      const reason = one.why();
      for (const input of one.inputs) {
        input.disabled = Boolean(reason);
        input.title = reason;
        if (reason) input.setAttribute("aria-describedby", one.told.id); else input.removeAttribute("aria-describedby");
      }
      one.box.classList.toggle("off", Boolean(reason));
      if (reason) reasons.set(one.told, (reasons.get(one.told) ?? new Set()).add(reason));
    }
    for (const one of every) one.told.textContent = [...(reasons.get(one.told) ?? [])].join(" ");
    const inside = folded.flatMap(([, controls]) => controls).filter((one) => !one.why() && (one === guesses ? guesses.value() : one === holds ? held.value : changed(one)));
    count.textContent = inside.length ? `· ${inside.length} in use` : "";
  }
  function changed(one) {
    try { return one.said() !== undefined && one !== width && !["penalty_alpha", "tried"].includes(one.name); } catch { return true; }
  }
  box.addEventListener("input", refresh);
  box.addEventListener("change", refresh);
  refresh();

  function body() {
    const found = {};
    for (const one of every) {
      const said = one.why() || ASIDE.has(one.name) ? undefined : one.said();
      if (said !== undefined) found[NAMES[one.name] ?? one.name] = said;
    }
    if (way.value() === "likeliest") found.temperature = 0;
    if (held.value) found[held.value] = READ[held.value](to.value);
    return found;
  }
  // What guesses for a model, where it can: n-grams, or a smaller one of the same tokenizer.
  function draft(model) {
    const fits = guesses.value() === "Ngram" || models.find((one) => one.reference === model)?.guesses.includes(guesses.value());
    return fits && !guesses.why() ? guesses.value() : "";
  }
  return { box, body, draft, talk: () => mode.value() === "talk", system: () => system.said() ?? "", searches: () => ["beams", "contrastive"].includes(way.value()) };
}
