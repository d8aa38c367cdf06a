// Home: each recipe as a strip of its stages, and the one command that goes on from here.
import { ask, bytes, cards, command, el, fileLink, link, nothing, number, seconds, table } from "./parts.js";

const WORDS = { done: "done", running: "running", failed: "failed", stopped: "begun, to be gone on with", missing: "not made yet" };

export async function home({ box, every }) {
  const open = { reference: null };
  let shown = "";
  async function refresh() {
    const said = await ask("/api/home");
    const now = JSON.stringify({ ...said, now: 0 });
    if (now === shown) return;
    shown = now;
    draw(box, said, open);
  }
  await refresh();
  every(2000, refresh);
}

function draw(box, said, open) {
  const held = document.activeElement?.dataset?.reference;
  const recipes = said.recipes.map((recipe) => strip(recipe, open));
  const others = said.others.filter((one) => one.status === "done");
  const empty = nothing("This store is empty. One command makes a chatting model on this machine:", "bloomery run recipes/quickstart.py");
  box.replaceChildren(el("h1", { text: "What is here" }), ...(recipes.length ? recipes : others.length ? [] : [empty]));
  if (others.length) {
    box.append(el("h2", { text: "Beside the last runs" }), table(["artifact", "size", "made in", "when"], others.map((one) => [
      link(one.reference), bytes(one.bytes), seconds(one.seconds), new Date(1000 * one.started).toLocaleString(),
    ]), [1, 2]));
  }
  if (held) box.querySelector(`[data-reference="${CSS.escape(held)}"]`)?.focus();
}

function strip(recipe, open) {
  const detail = el("div", { role: "region", "aria-label": "Stage", hidden: true });
  const done = recipe.stages.filter((stage) => stage.status === "done");
  const spent = done.reduce((sum, stage) => sum + stage.seconds, 0), size = done.reduce((sum, stage) => sum + stage.bytes, 0);
  const items = recipe.stages.map((stage) => el("li", {}, stageButton(stage, detail, open)));
  const reopened = recipe.stages.find((stage) => stage.reference === open.reference);
  if (reopened) tell(reopened, detail);
  return el("section", { class: "card" },
    el("div", { class: "row" }, el("h2", { text: recipe.name, style: "margin: 0" }),
      el("span", { class: "dim", text: `${done.length} of ${recipe.stages.length} stages · ${seconds(spent)} · ${bytes(size)}` })),
    el("ol", { class: "strip" }, items), detail, recipe.next ? el("div", {}, el("p", { class: "dim", text: "Next:" }), command(recipe.next)) : null);
}

function stageButton(stage, detail, open) {
  const about = stage.status === "done" ? `${seconds(stage.seconds)} · ${bytes(stage.bytes)}` : stage.status === "failed" ? WORDS.failed
    : stage.step !== null && stage.step !== undefined && stage.of ? `step ${number(stage.step)} of ${number(stage.of)}` : WORDS[stage.status];
  const made = el("button", {
    type: "button", "data-status": stage.status, "data-reference": stage.reference, "aria-expanded": String(open.reference === stage.reference),
    onclick: () => {
      const closes = open.reference === stage.reference;
      open.reference = closes ? null : stage.reference;
      for (const other of document.querySelectorAll(".strip button")) other.setAttribute("aria-expanded", String(other === made && !closes));
      if (closes) detail.hidden = true; else tell(stage, detail);
    },
  }, el("span", {}, el("span", { text: stage.label.replace(/[^/]*$/, "") }), el("wbr"), el("span", { text: stage.label.split("/").at(-1) })), el("small", { text: about }));
  if (stage.status !== "done" && stage.of) made.append(el("span", { class: "bar" }, el("i", { style: `width: ${Math.min(100, (100 * (stage.step ?? 0)) / stage.of)}%` })));
  return made;
}

async function tell(stage, detail) {
  detail.hidden = false;
  const head = el("h3", {}, link(stage.reference));
  if (stage.status !== "done") {
    detail.replaceChildren(head, el("p", { class: stage.why ? "bad" : null, text: stage.why || WORDS[stage.status] }), el("p", { class: "dim", text: stage.inputs.length ? `stands on ${stage.inputs.join(", ")}` : "stands on nothing else" }));
    return;
  }
  const told = await ask(`/api/artifact?ref=${encodeURIComponent(stage.reference)}`);
  const figures = Object.entries(told.summary).filter(([, value]) => typeof value === "number").slice(0, 8);
  detail.replaceChildren(head, cards(figures.map(([name, value]) => [number(value), name])),
    el("details", { open: true }, el("summary", { text: "Where it came from" }), tree(told.lineage)),
    el("details", {}, el("summary", { text: "Its fields" }), el("pre", { text: JSON.stringify(told.fields, null, 2) })),
    el("details", {}, el("summary", { text: `Its files (${told.files.length})` }), table(["file", "size"], told.files.map((file) => [fileLink(stage.reference, file.name), bytes(file.bytes)]), [1])));
}

function tree(node, field = "") {
  return el("ul", { class: "tree" }, el("li", {}, el("span", { class: "dim", text: field ? `${field}: ` : "" }), el("code", { text: node.reference }),
    node.there ? null : el("span", { class: "bad", text: " no longer in the store" }), node.inputs.map((child) => tree(child, child.field))));
}
