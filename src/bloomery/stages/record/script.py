"""The Data page's style and script: search, the sliders, and keys. The page says all the rest without it."""

STYLE = """
body { max-width: 72rem } .wrap { overflow-x: auto } [hidden] { display: none !important }
nav { position: sticky; top: 0; background: var(--paper); border-bottom: 1px solid var(--line); padding: .5rem 0; z-index: 1; display: flex;
  flex-wrap: wrap; gap: .3rem 1rem; align-items: center; margin-top: 1rem } nav a { color: var(--main); text-decoration: none }
nav a:hover { text-decoration: underline } nav label { margin-left: auto }
input[type=search] { font: inherit; color: inherit; background: var(--soft); border: 1px solid var(--line); border-radius: .4rem;
  padding: .15rem .6rem; width: 15rem; max-width: 60vw }
:focus-visible { outline: 2px solid var(--main); outline-offset: 2px } h2, article { scroll-margin-top: 3.5rem }
.skip { position: absolute; left: -99rem } .skip:focus { position: static }
mark { background: var(--mark); color: inherit; border-radius: .15rem; padding: 0 .1rem } .gap { color: var(--dim) }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem; margin: .7rem 0; background: var(--soft) }
article header { display: flex; flex-wrap: wrap; gap: .1rem .8rem; margin-bottom: .35rem; align-items: baseline }
article header code { color: var(--dim); margin-left: auto; overflow-wrap: anywhere }
.text { overflow-wrap: anywhere; max-height: 24rem; overflow: auto; contain: paint; unicode-bidi: isolate }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem } .two > div { min-width: 0 }
.funnel td { padding-block: .3rem } .funnel td.figure, .funnel th { white-space: nowrap } .funnel td:first-child { min-width: 14rem }
summary code { color: var(--ink) } .funnel svg { display: block; width: 22rem; max-width: 40vw; height: 1.1rem;
  margin-top: .15rem }
.stays { fill: var(--main) } .goes { fill: var(--bad) } .went { fill: var(--line) }
.measures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.2rem }
figure { margin: 0; border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem; min-width: 0 }
figcaption { font-weight: 600; display: flex; justify-content: space-between; align-items: start; gap: 1rem; margin-bottom: .4rem }
figure svg { display: block; width: 100%; height: 6rem } figure .out { fill: var(--bad); opacity: .55 } .axis { display: flex;
  justify-content: space-between; color: var(--dim); font-size: .8rem; font-variant-numeric: tabular-nums }
.slide { display: grid; grid-template-columns: 4.2rem 1fr 5.5rem; gap: .6rem; align-items: center; font-variant-numeric: tabular-nums }
.slide input { width: 100%; margin: 0; accent-color: var(--main) } .slide output { text-align: right } figure p { margin: .4rem 0 0 }
button { font: inherit; font-weight: 400; font-size: .8rem; color: inherit; background: var(--soft); border: 1px solid var(--line);
  border-radius: .4rem; cursor: pointer; white-space: nowrap }
@media print { nav { display: none } .text { max-height: none } }
"""

SCRIPT = """
"use strict";
const plain = (x) => x.toLocaleString("en");
const short = (x) => String(Number(x.toPrecision(4)));
const percent = (part, whole) => (whole ? (100 * part / whole).toFixed(1) : "0.0") + " %";

for (const measure of JSON.parse(document.getElementById("measures").textContent)) {
  const figure = document.getElementById(measure.id), n = measure.edges.length;
  const [low, high] = figure.querySelectorAll("input"), [lowSaid, highSaid] = figure.querySelectorAll("output");
  const result = figure.querySelector("p"), bars = figure.querySelectorAll("rect");
  const start = measure.chosen;
  const pass = (from, to) => measure.unmeasured + Math.max(0,
    (to === n ? measure.total : measure.upto[to]) - (from === 0 ? 0 : measure.below[from - 1]));
  const today = pass(...start);
  const show = () => {
    const from = Number(low.value), to = Number(high.value), now = pass(from, to), change = now - today;
    lowSaid.textContent = from === 0 ? "no bound" : short(measure.edges[from - 1]);
    highSaid.textContent = to === n ? "no bound" : short(measure.edges[to]);
    low.setAttribute("aria-valuetext", lowSaid.textContent);
    high.setAttribute("aria-valuetext", highSaid.textContent);
    bars.forEach((bar) => bar.classList.toggle("out", bar.dataset.bar < from || bar.dataset.bar > to));
    result.firstElementChild.textContent = percent(now, measure.reached);
    result.lastElementChild.textContent = change === 0 ? "as now" : plain(Math.abs(change)) + (change > 0 ? " more" : " fewer") + " than now";
  };
  const reset = () => { low.value = start[0]; high.value = start[1]; show(); };
  low.addEventListener("input", show);
  high.addEventListener("input", show);
  figure.querySelector("button").addEventListener("click", reset);
  reset();
}

const search = document.getElementById("search"), found = document.getElementById("found");
const articles = [...document.querySelectorAll("article")];
const texts = articles.map((article) => article.textContent.toLowerCase());
search.addEventListener("input", () => {
  const words = search.value.toLowerCase();
  let shown = 0;
  articles.forEach((article, i) => { const fits = texts[i].includes(words); article.hidden = !fits; shown += fits; });
  if (words) for (const group of document.querySelectorAll("details.group")) group.open = !!group.querySelector("article:not([hidden])");
  found.textContent = words ? plain(shown) + " of " + plain(articles.length) : "";
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === search) { search.value = ""; search.dispatchEvent(new Event("input")); search.blur(); return; }
  if (event.target.closest?.("input, button")) return;
  if (event.key === "/") { event.preventDefault(); search.focus(); }
  const step = { j: 1, k: -1 }[event.key];
  if (step) {
    const seen = articles.filter((article) => article.offsetParent !== null), at = seen.indexOf(document.activeElement);
    const next = seen[Math.min(seen.length - 1, Math.max(0, at + step))];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "start" }); }
  }
});
"""
