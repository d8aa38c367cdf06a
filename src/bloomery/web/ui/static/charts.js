// Charts of curves {label, colour, step, tokens, value}, drawn by uPlot; what they show is there in words, too.
import { el, number, seconds } from "./parts.js";

export function charts(box, groups) {
  const log = new Set(), seen = new Set();  // of which figures the scale is logarithmic, and which were there before
  let plots = [], axis = "step";
  function draw(by = axis) {
    axis = by;
    plots.forEach((plot) => plot.destroy());
    plots = [];
    for (const { title, curves } of groups) {
      if (!seen.has(title) && steep(curves)) log.add(title);
      seen.add(title);
    }
    const dim = resolve("--dim"), line = resolve("--line");
    const figures = groups.map((group) => figure(group, log.has(group.title), () => { if (!log.delete(group.title)) log.add(group.title); draw(); }));
    box.replaceChildren(...figures.map((one) => one.figure));
    for (const { group, area, logged } of figures) plots.push(new uPlot(options(group, area, logged, axis, dim, line), aligned(group.curves, axis), area));
  }
  const again = () => draw();
  addEventListener("resize", again);
  addEventListener("theme", again);
  return {
    draw, set: (now) => { groups = now; draw(); },
    end: () => { removeEventListener("resize", again); removeEventListener("theme", again); plots.forEach((plot) => plot.destroy()); },
  };
}

function figure(group, logged, turn) {
  const area = el("div"), button = el("button", { type: "button", "aria-pressed": String(logged), text: logged ? "linear" : "log", onclick: turn });
  return { group, area, logged, figure: el("figure", { "aria-label": group.title }, el("figcaption", {}, el("span", { text: group.title }), button), area, inWords(group.curves)) };
}

function options(group, area, logged, axis, dim, line) {
  const ruled = { stroke: dim, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width: Math.max(240, area.clientWidth), height: 220, cursor: { sync: { key: "run" } }, legend: { live: true },
    scales: { x: { time: false }, y: { distr: logged ? 3 : 1 } },
    axes: [{ ...ruled, values: (_, ticks) => ticks.map(axis === "time" ? clock : short) }, { ...ruled, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))) }],
    series: [{ label: axis, value: (_, v) => (v === null ? "–" : axis === "time" ? seconds(v) : number(v)) }, ...group.curves.map((curve) => ({
      label: curve.label, stroke: curve.colour, width: 1.5, spanGaps: true, points: { show: curve.value.filter((v) => v !== null).length < 60 },
      value: (_, v) => (v === null || v === undefined ? "–" : number(v)),
    }))],
  };
}

function resolve(name) {  // a colour that a canvas understands
  const probe = el("i", { style: `color: var(${name})` });
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${+(value / 1e9).toPrecision(3)}G`;
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return size && size < 1e-3 ? value.toExponential(0) : String(+value.toPrecision(4));
}

const STEEP = 20;
function steep(curves) {  // most of what is to be seen would lie on the ground: the greatest value is far above where it is most of the time
  const values = curves.flatMap((curve) => curve.value.filter((one) => one !== null)).sort((a, b) => a - b);
  return values.length > 20 && values[0] > 0 && values.at(-1) > STEEP * values[values.length >> 1];
}

function clock(value) {  // seconds, on a scale
  return value < 120 ? `${+value.toPrecision(3)} s` : value < 7200 ? `${+(value / 60).toPrecision(3)} min` : `${+(value / 3600).toPrecision(3)} h`;
}

function aligned(curves, axis) {  // several curves over one axis, with gaps where one has nothing
  const at = new Map();
  curves.forEach((curve, i) => curve[axis].forEach((x, place) => {
    if (x === null) return;
    if (!at.has(x)) at.set(x, new Array(curves.length).fill(null));
    at.get(x)[i] = curve.value[place];
  }));
  const xs = [...at.keys()].sort((a, b) => a - b);
  return [xs, ...curves.map((_, i) => xs.map((x) => at.get(x)[i]))];
}

function inWords(curves) {
  const told = curves.map(({ label, value }) => {
    const values = value.filter((one) => one !== null);
    if (!values.length) return `${label}: nothing`;
    const [least, greatest] = values.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)], [Infinity, -Infinity]);
    return `${label}: last ${number(values.at(-1))}, least ${number(least)}, greatest ${number(greatest)}`;
  });
  return el("details", {}, el("summary", { text: "In numbers" }), el("ul", {}, told.map((text) => el("li", { text }))));
}
