// The shell: which page is shown, its colours, and what goes wrong.
import { el } from "./parts.js";
import { chat } from "./chat.js";
import { compare } from "./compare.js";
import { data } from "./data.js";
import { evaluate } from "./evaluate.js";
import { home } from "./home.js";
import { label } from "./label.js";
import { plan } from "./plan.js";
import { run, runs } from "./run.js";
import { tokens } from "./tokens.js";

const main = document.querySelector("#main"), state = document.querySelector("#state");
let leave = () => {};

async function show() {
  leave();
  leave = () => {};
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const argument = decodeURIComponent(rest.join("/"));
  for (const link of document.querySelectorAll("header nav a")) {
    const own = link.getAttribute("href").replace(/^#\/?/, "");
    if (own === page) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  const box = el("div");
  let left = false;
  const context = {
    box, every: (ms, call) => {  // repeats as long as the page is shown; what fails is told, and tried again
      const timer = setInterval(async () => {
        try { await call(); if (!left) state.textContent = ""; } catch (error) { if (!left) state.textContent = `not up to date: ${error.message}`; }
      }, ms);
      const before = leave;
      leave = () => { left = true; clearInterval(timer); before(); };
    },
    onleave: (call) => { const before = leave; leave = () => { call(); before(); }; },
  };
  try {
    if (page === "tokens") await tokens(context);
    else if (page === "plan") await plan(context);
    else if (page === "compare") await compare(context, argument);
    else if (page === "label") await label(context, argument);
    else if (page === "chat") await chat(context, argument);
    else if (page === "data") await data(context, argument);
    else if (page === "evaluate") await evaluate(context, argument);
    else if (page === "run" && argument) await run(context, argument);
    else if (page === "run") await runs(context);
    else await home(context);
    state.textContent = "";
  } catch (error) {
    box.replaceChildren(el("h1", { text: "That did not work" }), el("p", { class: "bad", text: error.message }), el("p", {}, el("a", { href: "#/", text: "Home" })));
  }
  main.replaceChildren(box);
  document.title = `${box.querySelector("h1")?.textContent ?? "Bloomery"} · Bloomery`;
}

const THEMES = [["", "Auto", "as the system has them"], ["light", "Light", "light"], ["dark", "Dark", "dark"]];
const button = document.querySelector("#theme");
function theme(name) {
  const [value, label, told] = THEMES.find(([one]) => one === name) ?? THEMES[0];
  if (value) document.documentElement.dataset.theme = value; else delete document.documentElement.dataset.theme;
  button.textContent = label;
  button.setAttribute("aria-label", `Colours: ${told}`);
  dispatchEvent(new Event("theme"));
}
button.addEventListener("click", () => {
  const next = THEMES[(THEMES.findIndex(([one]) => one === (localStorage.getItem("theme") ?? "")) + 1) % THEMES.length][0];
  localStorage.setItem("theme", next);
  theme(next);
});
theme(localStorage.getItem("theme") ?? "");
addEventListener("hashchange", async () => { await show(); main.focus(); });
show();
