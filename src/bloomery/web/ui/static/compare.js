// Compare: runs side by side: only the fields that differ, their curves over each other, what was measured, what each answered.
import { ask, axes, el, figure, nothing, number, query, runLink, table } from "./parts.js";
import { charts } from "./charts.js";

const COLOURS = ["#1f6feb", "#d9730d", "#2e9e5b", "#8b5cf6", "#c2255c", "#0c8599"];

export async function compare({ box, onleave }, chosen) {
  const said = await ask("/api/home");
  const known = [...said.recipes.flatMap((recipe) => recipe.stages), ...said.others].filter((stage) => stage.stage === "Train" && stage.status !== "missing");
  const references = chosen ? chosen.split(",") : [...new Set(known.map((stage) => stage.reference))].slice(0, 2);  // to begin with, the first two
  const choices = [...new Map(known.map((stage) => [stage.reference, stage])).keys()].map((reference) => el("label", {},
    el("input", { type: "checkbox", value: reference, checked: references.includes(reference), onchange: pick }), ` ${reference}`));
  function pick() {
    const wanted = choices.map((label) => label.querySelector("input")).filter((one) => one.checked).map((one) => one.value);
    location.hash = `#/compare/${wanted.map(encodeURIComponent).join(",")}`;
  }
  box.replaceChildren(el("h1", { text: "Compare" }), known.length ? el("div", { class: "row" }, choices) : nothing("No training has been run into this store yet. This runs two:", "bloomery run recipes/quickstart.py"));
  if (references.length < 2) {
    if (known.length) box.append(el("p", { class: "dim", text: "Choose two runs or more, up to six." }));
    return;
  }
  const some = references.slice(0, COLOURS.length);
  const [alike, ...all] = await Promise.all([query("/api/compared", { refs: some.join(",") }), ...some.map((ref) => query("/api/run", { ref }).catch((error) => ({ error: error.message })))]);
  box.append(...all.filter((run) => run.error).map((run) => el("p", { class: "warn", text: run.error })));
  const runs = all.filter((run) => !run.error);
  if (!runs.length) return;
  box.append(el("p", { class: "row" }, runs.map((run, i) => el("span", {}, el("i", { style: `display: inline-block; width: .8em; height: .8em; border-radius: 50%; background: ${COLOURS[i]}` }), " ", runLink(run.reference)))));
  box.append(el("h2", { text: "What differs" }), differing(runs));
  const place = el("div", { class: "plots" }), plots = charts(place, shared(runs));
  box.append(el("div", { class: "row", style: "margin: 1.5rem 0 .6rem" }, el("label", { for: "axis", text: "Figures" }), axes(plots.draw)), place,
    el("h2", { text: "At their ends" }), ends(runs), el("h2", { text: "What was measured of them" }), measured(runs, alike), ...answers(runs));
  requestAnimationFrame(() => plots.draw("step"));
  onleave(plots.end);
}

function differing(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.fields)))];
  const rows = names.map((name) => [name, ...runs.map((run) => JSON.stringify(run.fields[name]) ?? "(default)")]).filter(([, ...values]) => new Set(values).size > 1);
  return rows.length ? table(["field", ...runs.map((run) => run.reference)], rows) : el("p", { text: "No field that the store knows of." });
}

function shared(runs) {  // a chart for each figure that two of them have, a curve for each run
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))].filter((name) => name !== "learnt" && runs.filter((run) => run.curves[name]).length > 1);
  const same = (a, b) => runs.every((run) => String(run.curves[a]?.value) === String(run.curves[b]?.value));
  return names.filter((name) => name !== "nll" || !names.includes("loss") || !same("nll", "loss")).map((name) => ({
    title: name, curves: runs.map((run, i) => ({ label: run.reference, colour: COLOURS[i], ...(run.curves[name] ?? { step: [], tokens: [], time: [], value: [] }) })),
  }));
}

function ends(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))].filter((name) => name !== "learnt");
  return table(["figure", ...runs.map((run) => run.reference)], names.map((name) => [name, ...runs.map((run) => (run.curves[name] ? number(run.curves[name].value.at(-1) ?? "–") : "–"))]), runs.map((_, i) => i + 1));
}

function measured(runs, alike) {
  if (!alike.length) return nothing("Nothing yet; add Evaluate or Assess to their recipes, or put a task to one:", `bloomery eval ${runs[0].reference} recipes/tasks/tales.py`);
  return el("div", {}, table(["measurement", "figure", ...runs.map((run) => run.reference)], alike.map((row) => [row.what, row.figure, ...runs.map((run) => (row.of[run.reference] ? figure(row.of[run.reference]) : "–"))]), runs.map((_, i) => i + 2)),
    el("p", { class: "dim", text: "± is the standard error." }));
}

function answers(runs) {  // the same prompts, the last answers
  const prompts = [...new Set(runs.flatMap((run) => run.samples.map((one) => one.prompt)))];
  const rows = prompts.map((prompt) => [prompt, ...runs.map((run) => run.samples.filter((one) => one.prompt === prompt).at(-1)?.answer ?? "–")]);
  return rows.length ? [el("h2", { text: "The same prompts" }), table(["prompt", ...runs.map((run) => run.reference)], rows)] : [];
}
