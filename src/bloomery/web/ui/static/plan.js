// Plan: what a training would take, before it is one: memory of a rank by kind, time, money, and the line to copy.
import { ask, bytes, cards, command, el, field, number, seconds, select, slider, table } from "./parts.js";

const COLOURS = ["#1f6feb", "#d9730d", "#2e9e5b", "#8b5cf6", "#c2255c", "#0c8599", "#a16207", "#5b6570"];

export async function plan({ box }) {
  const known = await ask("/api/choices");
  const model = select("model", known.models.map((one) => [one.name, `${one.name} · ${scale(one.parameters)}`]), "1.4b");
  const machine = select("machine", known.machines.map((one) => [one.name, `${one.name} · ${bytes(one.memory)}`]), "h100");
  const way = select("way", [["shard", "everything sharded"], ["replicate", "whole copies"], ["fastest", "the fastest that fits (takes longer)"]], "shard");
  const recompute = select("recompute", [["none", "nothing"], ["selective", "what is cheap"], ["full", "every block"]], "none");
  const tokens = slider("tokens", 7, 13, 0.1, 10.5, (x) => 10 ** x, scale);
  const batch = slider("batch", 14, 23, 1, 19, (x) => 2 ** x, scale);
  const ranks = slider("ranks", 0, 12, 1, 3, (x) => 2 ** x, number);
  const price = el("input", { id: "price", type: "number", min: 0, step: 0.1, value: 2.5 });
  const result = el("div", { "aria-live": "polite" }, el("p", { class: "dim", text: "Working it out …" }));
  const form = el("form", { class: "side card", onsubmit: (event) => event.preventDefault() },
    field("model", "Model", model), field("tokens", "Tokens to train on", tokens.input, tokens.output), field("batch", "Tokens of a step", batch.input, batch.output),
    field("machine", "Machine", machine), field("ranks", "How many", ranks.input, ranks.output), field("way", "Laid out as", way),
    field("recompute", "Computed again", recompute), field("price", "Price of an hour of one", price));
  box.replaceChildren(el("h1", { text: "Plan" }), form, result);
  let due, asked = 0;
  form.addEventListener("input", () => { clearTimeout(due); due = setTimeout(update, 250); });
  async function update() {
    const own = ++asked;
    const query = new URLSearchParams({ model: model.value, machine: machine.value, way: way.value, recompute: recompute.value, price: price.value || 0, tokens: tokens.value(), batch_tokens: batch.value(), ranks: ranks.value() });
    result.classList.add("dim");
    try {
      const said = await ask(`/api/plan?${query}`);
      if (own === asked) result.replaceChildren(...told(said));
    } catch (error) {
      if (own === asked) result.replaceChildren(el("p", { class: "bad", text: error.message }));
    }
    if (own === asked) result.classList.remove("dim");
  }
  update();  // takes seconds, which the page does not wait for
}

function scale(n) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) if (n >= size) return `${+(n / size).toPrecision(3)}${unit}`;
  return String(Math.round(n));
}

function told(said) {
  const cost = said.cost === null ? [] : [[said.cost.toLocaleString("en", { maximumFractionDigits: said.cost < 100 ? 2 : 0 }), "in all"]];
  const time = said.seconds < 48 * 3600 ? seconds(said.seconds) : `${number(said.seconds / 86400)} days`;
  return [
    cards([[time, "time"], ...cost, [number(said.machine_hours), "machine-hours"], [scale(said.tokens_per_s), "tokens a second"], [seconds(said.step_s), "a step"], [`${(100 * said.utilisation).toFixed(0)} %`, "of the peak"], [`${scale(said.flops / 1e12)} TFLOP`, "operations"]]),
    el("p", { class: said.fits ? "good" : "bad", text: said.fits ? `It fits: ${said.setting}.` : "It does not fit. Take more machines or larger ones, or have more computed again; the command below searches for the nearest that does." }),
    el("h2", { text: "Memory of a rank" }), ...said.places.map((place, i) => memory(place, said, i)),
    ...(said.others.length ? [el("h2", { text: "Other ways" }), table(["layout", "memory", "step", "why"], said.others.map((one) => [one.setting, bytes(one.memory), seconds(one.step_s), one.why]), [1, 2])] : []),
    el("h2", { text: "Size and data" }), el("ul", {}, said.advice.map((text) => el("li", { text }))), el("h2", { text: "To copy" }), el("p", { class: "dim", text: "In a recipe, where tokenizer and read are its stages:" }), command(said.recipe),
    el("p", { class: "dim", text: "The same plan on the command line:" }), command(said.command),
  ];
}

function memory(place, said, i) {
  const whole = Math.max(place.total, said.usable), parts = Object.entries(place.parts).filter(([, size]) => size > 0).sort((a, b) => b[1] - a[1]);
  const name = said.places.length > 1 ? `place ${i + 1} of the pipeline: ` : "";
  return el("div", { class: "card" },
    el("p", { style: "margin-top: 0", text: `${name}${bytes(place.total)} of ${bytes(said.usable)} that tensors can have, at its worst in ${place.moment}` }),
    el("div", { class: "memory", "aria-hidden": "true" }, parts.map(([what, size], k) => el("i", { title: `${what}: ${bytes(size)}`, style: `width: ${(100 * size) / whole}%; background: ${COLOURS[k % COLOURS.length]}` })),
      el("b", { style: `left: ${(100 * said.usable) / whole}%` })),
    el("ul", { class: "legend" }, parts.map(([what, size], k) => el("li", {}, el("i", { style: `background: ${COLOURS[k % COLOURS.length]}` }), ` ${what} ${bytes(size)}`))));
}
