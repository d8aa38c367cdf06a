// Label: a prompt with two to four answers, blind and shuffled; nothing that was said is lost, and nothing is there twice.
import { ask, cards, command, el, here, nothing, number, select, table } from "./parts.js";

const LETTERS = "ABCD", BEST = 5;

export async function label({ box, onleave }, chosen) {
  const sets = await ask("/api/labels");
  if (!chosen) {
    box.replaceChildren(el("h1", { text: "Label" }), sets.length ? table(["set", "items", "judgements"], sets.map((one) => [
      el("a", { href: `#/label/${encodeURIComponent(one.name)}`, text: one.name }), number(one.items), number(one.judged)]), [1, 2])
      : nothing("There is nothing to be compared yet. On the Chat page, two models answer the same and “Send to Label” brings it here; or a model writes several answers to each line of a file, and they are added:",
        "bloomery generate Train/chat --prompts questions.txt --samples 3 --by 'Random(temperature=1.0)' --output answers.jsonl", "bloomery label first --add answers.jsonl"));
    return;
  }
  const view = { labeler: localStorage.getItem("labeler") ?? "", item: null, ranks: [], rates: [], since: 0, sending: false };
  const who = el("input", { id: "who", autocomplete: "name", maxlength: 60, value: view.labeler });
  const place = el("div"), agreement = el("div"), said = el("p", { role: "status", class: "dim" });
  const way = select("way", [["rank", "rank them"], ["rate", `rate each from 1 to ${BEST}`]], localStorage.getItem("way") ?? "rank", { onchange: () => { localStorage.setItem("way", way.value); if (view.next) show(view.next); } });
  const rating = () => way.value === "rate";
  const form = el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); begin(); } },
    el("label", { for: "way", text: "What you do" }), way, el("label", { for: "who", text: "Your name" }), who, el("button", { text: "Go on" }));
  box.replaceChildren(el("h1", { text: `Label: ${chosen}` }), form, said, place, el("h2", { text: "Agreement" }), agreement, el("h2", { text: "Rows for a reward model or DPO" }),
    el("p", {}, el("a", { href: `/labels/${encodeURIComponent(chosen)}.jsonl`, download: `${chosen}.jsonl`, text: "What has been judged, as rows of preferences" }), el("span", { class: "dim", text: "; the same on the command line, and a recipe that learns from them:" })),
    command(`bloomery label ${chosen} --rows preferences.jsonl${here()}`), command(`bloomery run recipes/human_preferences.py --data preferences.jsonl --text TEXT${here()}`));

  async function begin() {
    view.labeler = who.value.trim();
    if (!view.labeler) { said.textContent = "Say who you are first."; who.focus(); return; }
    localStorage.setItem("labeler", view.labeler);
    await resend();
    show(await ask(`/api/label?set=${encodeURIComponent(chosen)}&labeler=${encodeURIComponent(view.labeler)}`));
    agree();
  }

  // What was said but not yet answered for is kept by the browser, and sent again with its own token.
  const WAITING = `judgement of ${chosen}`;
  async function send(told) {
    if (view.sending) return;
    view.sending = true;
    const body = JSON.stringify({ set: chosen, labeler: view.labeler, token: crypto.randomUUID(), seconds: (performance.now() - view.since) / 1000, ...told });
    localStorage.setItem(WAITING, body);
    try { await post(body); } catch (error) { said.textContent = `Not kept yet: ${error.message}. It is sent again when you go on.`; }
    view.sending = false;
  }
  async function resend() {
    const body = localStorage.getItem(WAITING);
    if (body) await post(body);
  }
  async function post(body) {
    let answer;
    try { answer = await ask("/api/judge", { method: "POST", headers: { "Content-Type": "application/json" }, body }); }
    catch (error) { if (error instanceof TypeError) throw error; localStorage.removeItem(WAITING); throw error; }
    localStorage.removeItem(WAITING);
    said.textContent = answer.undone ? "Taken back." : "Kept.";
    show(answer);
  }

  function show(next) {
    view.next = next;
    view.item = next.item;
    view.ranks = next.item ? next.item.answers.map(() => 0) : [];
    view.rates = [...view.ranks];
    view.since = performance.now();
    const bar = el("div", { class: "bar", role: "progressbar", "aria-label": "Judged", "aria-valuemin": 0, "aria-valuemax": next.of, "aria-valuenow": next.done }, el("i", { style: `width: ${next.of ? (100 * next.done) / next.of : 0}%` }));
    const count = el("p", { class: "dim", text: `${number(next.done)} of ${number(next.of)} judged` });
    if (!next.item) {
      place.replaceChildren(bar, count, el("p", { text: next.of ? "That was all. Thank you." : "The set is empty." }), buttons());
      return;
    }
    const prompt = next.item.prompt.map((message) => el("div", {}, el("p", { class: "dim", text: message.role }), el("p", { text: message.content, style: "white-space: pre-wrap; margin: 0" })));
    view.marks = next.item.answers.map((_, i) => el("output", { class: "dim", id: `rank${i}` }));
    const answers = next.item.answers.map((text, i) => el("section", { class: "card", "aria-label": `Answer ${LETTERS[i]}` },
      el("p", { text, style: "white-space: pre-wrap; margin-top: 0" }),
      el("div", { class: "row" }, rating() ? [el("span", { class: "dim", text: `${LETTERS[i]} is` }), ...stars(i)]
        : el("button", { type: "button", "data-pick": i, text: `${i + 1} · ${LETTERS[i]} is ${next.item.answers.length === 2 ? "better" : "next best"}`, onclick: () => pick(i) }), view.marks[i])));
    place.replaceChildren(bar, count, el("div", { class: "card" }, prompt), el("div", { class: "side" }, answers), buttons());
  }

  function buttons() {
    const tie = view.item ? [...(rating() ? [] : [["t · A tie", even]]), ["s · Cannot say", () => send({ kind: "skip", item: view.item.id })], ["f · Something is wrong with it", () => send({ kind: "flag", item: view.item.id })]] : [];
    return el("div", { class: "row" }, [...tie, ["u · Undo", undo]].map(([text, onclick]) => el("button", { type: "button", text, onclick })));
  }
  function undo() {
    if ([...view.ranks, ...view.rates].some(Boolean)) { view.ranks.fill(0); view.rates.fill(0); marks(); } else send({ kind: "undo" });
  }
  const even = () => send({ kind: "ranks", item: view.item.id, ranks: view.ranks.map(() => 1) });
  function marks() {
    view.marks.forEach((mark, i) => { mark.textContent = view.ranks[i] ? `place ${view.ranks[i]}` : view.rates[i] ? `${view.rates[i]} of ${BEST}` : ""; });
  }
  function stars(i) {
    return Array.from({ length: BEST }, (_, k) => el("button", { type: "button", "aria-label": `Answer ${LETTERS[i]}: ${k + 1} of ${BEST}`, text: k + 1, onclick: () => rate(i, k + 1) }));
  }
  function rate(i, value) {  // the keys 1 to 5 rate the first answer that is not rated yet
    if (!view.item || i < 0) return;
    view.rates[i] = value;
    marks();
    if (view.rates.every(Boolean)) send({ kind: "ranks", item: view.item.id, rates: view.rates });
  }
  function pick(i) {
    if (!view.item || i >= view.ranks.length || view.ranks[i]) return;
    view.ranks[i] = 1 + Math.max(...view.ranks);
    const left = view.ranks.filter((rank) => !rank).length;
    if (left === 1) view.ranks[view.ranks.indexOf(0)] = 1 + Math.max(...view.ranks);
    marks();
    if (left <= 1) send({ kind: "ranks", item: view.item.id, ranks: view.ranks });
  }
  function key(event) {
    if (event.target.closest("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (rating() && "12345".includes(event.key)) rate(view.rates.indexOf(0), Number(event.key));
    else if ("1234".includes(event.key)) pick(Number(event.key) - 1);
    else if (event.key === "u") undo();
    else if (!view.item) return;
    else if (event.key === "t" && !rating()) even();
    else if (event.key === "s") send({ kind: "skip", item: view.item.id });
    else if (event.key === "f") send({ kind: "flag", item: view.item.id });
  }
  addEventListener("keydown", key);
  onleave(() => removeEventListener("keydown", key));

  async function agree() {
    const told = await ask(`/api/agreement?set=${encodeURIComponent(chosen)}`);
    const people = Object.entries(told.judged).map(([name, n]) => [name, number(n), told.gold[name] ? `${told.gold[name][0]} of ${told.gold[name][1]}` : "–"]);
    const pairs = told.between.map((one) => [one.who.join(" and "), number(one.pairs), `${Math.round(100 * one.same)} %`, one.kappa.toFixed(2)]);
    agreement.replaceChildren(...(told.kappa === null ? [el("p", { class: "dim", text: "No two people have judged the same yet." })] : [cards([[told.kappa.toFixed(2), "κ over all pairs of people"]])]),
      ...(people.length ? [table(["who", "ranked", "known pairs right"], people, [1, 2])] : []), ...(pairs.length ? [table(["between", "pairs of answers", "the same", "κ"], pairs, [1, 2, 3])] : []));
  }
  await agree();
  if (view.labeler) await begin();
}
