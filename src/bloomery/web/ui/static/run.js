// A run: its figures as they come, what it answered along the way, what was done about bad steps.
import { charts } from "./charts.js";
import { ask, axes, bytes, cards, el, nothing, number, post, query, runLink, seconds, table } from "./parts.js";

const COLOURS = ["#1f6feb", "#d9730d", "#2e9e5b", "#8b5cf6", "#c2255c", "#0c8599"];
const GROUPS = [
  ["Loss", (name) => name === "loss" || name === "nll" || name.endsWith("/loss")],
  ["Held out, bits per byte", (name) => name.endsWith("bits_per_byte")],
  ["What it knows", (name) => name.startsWith("suite/") || name.endsWith("/accuracy")],
  ["Norm of the gradient", (name) => name.startsWith("grad_norm")],
  ["Learning rate", (name) => name.startsWith("learning_rate")],
  ["Norm of the update", (name) => name.startsWith("update")],
  ["Tokens a second", (name) => name === "tokens_per_s"],
  ["Utilisation", (name) => name === "utilisation"],
];
const HIDDEN = new Set(["learnt"]);

export async function runs({ box, every }) {
  async function refresh() {
    const said = await ask("/api/home");
    const rows = said.recipes.flatMap((recipe) => recipe.stages.filter((stage) => stage.stage === "Train").map((stage) => [recipe.name, stage]));
    rows.push(...said.others.filter((stage) => stage.stage === "Train").map((stage) => ["–", stage]));
    box.replaceChildren(el("h1", { text: "Runs" }), rows.length ? table(["recipe", "training", "", "steps", "time"], rows.map(([recipe, stage]) => [
      recipe, stage.status === "missing" ? stage.reference : runLink(stage.reference), stage.status, number(stage.figures?.steps ?? stage.step ?? 0), stage.seconds ? seconds(stage.seconds) : "",
    ]), [3, 4]) : nothing("No training has been run into this store yet. This runs two:", "bloomery run recipes/quickstart.py"));
  }
  await refresh();
  every(3000, refresh);
}

export async function run({ box, every, onleave }, reference) {
  const path = `/api/run?ref=${encodeURIComponent(reference)}`;
  const said = await ask(path);
  const view = { said };
  const top = el("div"), place = el("div", { class: "plots" }), below = el("div"), plots = charts(place, []);
  box.replaceChildren(el("h1", {}, el("span", { text: reference })), top,
    el("div", { class: "row", style: "margin: 1rem 0 .6rem" }, el("label", { for: "axis", text: "Figures" }), axes(plots.draw)), place, below);
  const all = () => { head(view.said, top, reference); plots.set(groups(view.said.curves)); foot(view.said, below, reference); };
  requestAnimationFrame(all);
  onleave(plots.end);
  let shown = said.alerts;
  if (said.status === "done") return;
  every(1000, async () => {
    const news = await ask(`${path}&after=${view.said.last.step ?? -1}`);
    if ((news.last.step ?? 0) < (view.said.last.step ?? 0)) { view.said = await ask(path); all(); return; }  // it went back
    const grown = merge(view.said, news);
    view.said = { ...news, curves: grown };
    if (Object.values(news.curves).length || news.status !== said.status || String(news.alerts) !== String(shown)) all();
    shown = news.alerts;
  });
}

function merge(before, news) {
  const curves = { ...before.curves };
  for (const [name, more] of Object.entries(news.curves)) {
    const own = curves[name] ?? { step: [], tokens: [], time: [], value: [] };
    curves[name] = Object.fromEntries(Object.entries(own).map(([part, list]) => [part, list.concat(more[part])]));
  }
  return curves;
}

function head(said, top, reference) {
  const of = said.fields.steps ?? (said.fields.tokens && said.fields.batch_tokens ? Math.ceil(said.fields.tokens / said.fields.batch_tokens) : null);
  const last = said.last, figures = [[said.status, "state"]];
  if (last.step !== undefined) figures.push([of ? `${number(last.step)} of ${number(of)}` : number(last.step), "steps"]);
  for (const [name, what] of [["loss", "loss"], ["tokens_per_s", "tokens a second"], ["tokens", "tokens read"], ["learning_rate", "learning rate"]]) {
    if (last[name] !== undefined) figures.push([number(last[name]), what]);
  }
  if (said.status === "running" && of && last.tokens_per_s && said.fields.batch_tokens) {
    figures.push([seconds(((of - last.step) * said.fields.batch_tokens) / last.tokens_per_s), "to go"]);
  }
  if (last.utilisation !== undefined) figures.push([`${(100 * last.utilisation).toFixed(1)} %`, "of the machine's peak"]);
  const plan = Object.entries(said.plan).map(([name, one]) => [name.replaceAll("_", " "),
    ...["planned", "measured"].map((kind) => (name.endsWith("per_s") ? number(one[kind]) : bytes(one[kind]))), number(one.ratio)]);
  top.replaceChildren(...alerts(said.alerts), cards(figures), ...stop(said, reference), ...(of && said.status !== "done" ? [el("div", { class: "bar", role: "progressbar", "aria-label": "Steps done", "aria-valuemin": 0, "aria-valuemax": of, "aria-valuenow": last.step ?? 0 }, el("i", { style: `width: ${(100 * (last.step ?? 0)) / of}%` }))] : []),
    ...memory(said.plan), ...(plan.length ? [el("details", {}, el("summary", { text: "Planned beside measured" }), table(["", "planned", "measured", "ratio"], plan, [1, 2, 3]))] : []));
}

function alerts(list) {
  return list.length ? [el("ul", { class: "alerts", "aria-label": "What there is to be said of it" }, list.map(([level, text]) => el("li", { class: level, text })))] : [];
}

function stop(said, reference) {
  if (said.status !== "running") return [];
  const told = el("span", { class: "dim", role: "status", text: said.stopping ? "Asked to end: it saves at its next step, and the same command goes on from there." : "" });
  const button = el("button", { type: "button", text: "Stop and save", disabled: said.stopping, onclick: async () => {
    button.disabled = true;
    try { await post("/api/stop", { ref: reference }); told.textContent = "Asked to end: it saves at its next step, and the same command goes on from there."; }
    catch (error) { told.textContent = error.message; button.disabled = false; }
  } });
  return [el("div", { class: "row", style: "margin: .6rem 0" }, button, told)];
}

function memory(plan) {  // what it takes beside what was planned
  const one = plan.tensors ?? plan.resident;
  if (!one?.measured) return [];
  const most = Math.max(one.planned, one.measured);
  return [el("div", { class: "card" }, el("p", { style: "margin-top: 0", text: `Memory at its most: ${bytes(one.measured)}, of ${bytes(one.planned)} that were planned` }),
    el("div", { class: "memory", "aria-hidden": "true" }, el("i", { style: `width: ${(100 * one.measured) / most}%; background: var(--main)` }), el("b", { style: `left: ${(100 * one.planned) / most}%` })))];
}

function groups(curves) {
  const names = Object.keys(curves).filter((name) => !HIDDEN.has(name)), taken = new Set(), found = [];
  for (const [title, belongs] of GROUPS) {
    const own = names.filter((name) => belongs(name) && !taken.has(name));
    own.forEach((name) => taken.add(name));
    const same = new Set(own);
    if (same.has("nll") && same.has("loss") && String(curves.nll.value) === String(curves.loss.value)) own.splice(own.indexOf("nll"), 1);
    if (own.length) found.push(group(title, own, curves));
  }
  for (const name of names.filter((one) => !taken.has(one))) found.push(group(name, [name], curves));
  return found;
}

function group(title, names, curves) {
  return { title, curves: names.map((name, i) => ({ label: name, colour: COLOURS[i % COLOURS.length], ...curves[name] })) };
}

function foot(said, below, reference) {
  const parts = [];
  if (said.events.length) {
    parts.push(el("h2", { text: "Bad steps, and what was done" }), table(["step", "why", "what was done", "loss", "documents"], said.events.map((event) => [
      number(event.step), event.cause, event.rung + (event.back_to !== undefined && event.rung === "roll back" ? ` to step ${event.back_to}` : ""),
      event.loss === null ? "–" : number(event.loss), (event.documents ?? []).map((one) => `${one.source} ${one.id}`).join(", "),
    ]), [0, 3]));
  }
  if (said.samples.length) {
    const steps = [...new Set(said.samples.map((one) => one.step))], list = el("div"), label = el("output", { for: "at" });
    const slider = el("input", { id: "at", type: "range", min: 0, max: steps.length - 1, value: steps.length - 1, oninput: tell });
    function tell() {
      const step = steps[Number(slider.value)];
      label.textContent = `step ${number(step)}`;
      list.replaceChildren(...said.samples.filter((one) => one.step === step).map((one) => el("div", { class: "card" }, el("p", { class: "dim", text: one.prompt }), el("p", { text: one.answer, style: "white-space: pre-wrap; margin: 0" }))));
    }
    tell();
    parts.push(el("h2", { text: "What it answers" }), el("div", { class: "row" }, el("label", { for: "at", text: "At" }), slider, label), list);
  }
  if (said.status === "done" && said.last.step) parts.push(el("h2", { text: "What it has read" }), batches(() => reference, said.last.step));
  below.replaceChildren(...parts);
}

export function batches(reference, last, ...parts) {  // the very batch of a step, of the run that `reference()` says
  const rows = el("div"), input = el("input", { id: "step", type: "number", min: 1, max: last, value: 1 });
  const form = el("form", { class: "row", onsubmit: async (event) => {
    event.preventDefault();
    try { rows.replaceChildren(...batch(await query("/api/step", { ref: reference(), step: Number(input.value) }))); }
    catch (error) { rows.replaceChildren(el("p", { class: "bad", text: error.message })); }
  } }, el("label", { for: "step", text: "The batch of step" }), input, parts, el("button", { text: "Show" }));
  return el("div", {}, form, rows);
}

function batch(said) {
  const told = el("p", { class: "dim", text: `${number(said.documents)} documents in ${number(said.rows)} rows; the first rows:` });
  return [told, ...said.spans.map((span) => el("div", { class: "card" },
    el("p", { class: "dim", text: `row ${span.row + 1} · ${span.source} · ${span.id} · tokens ${number(span.start)}–${number(span.stop)}` }), pieces(span.pieces)))];
}

export function pieces(list) {
  return el("div", { class: "pieces" }, list.map((piece) => el("span", {
    title: `id ${piece.id}`, class: [piece.control ? "control" : "", piece.unlearnt ? "unlearnt" : ""].join(" ").trim() || null, text: piece.text,
  })));
}
