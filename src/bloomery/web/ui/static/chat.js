// Chat: one or two models beside each other; each token with its probability, a look inside, the request to copy, answers to be judged.
import { settings } from "./controls.js";
import { inside, weighed } from "./inside.js";
import { ask, el, number, percent, post, select } from "./parts.js";
import { asCurl, asPython, stream } from "./speech.js";

export async function chat({ box, onleave }, chosen) {
  const models = await ask("/api/models");
  box.replaceChildren(el("h1", { text: "Chat" }));
  if (!models.length) { box.append(el("p", { text: "No model has been made in this store yet." })); return; }
  const handed = JSON.parse(sessionStorage.getItem("chat") ?? "null");
  sessionStorage.removeItem("chat");
  const controls = settings(models), first = handed?.model ?? (chosen || models[0].reference);
  const text = el("textarea", { id: "say", rows: 3, placeholder: "Ask something. Enter sends, Shift+Enter begins a line." });
  const state = el("p", { class: "dim", role: "status" }), place = el("div");
  const columns = [column("left", first), column("right", "")];
  const send = el("button", { class: "main", text: "Send" }), stop = el("button", { type: "button", text: "Stop", disabled: true, onclick: () => columns.forEach((one) => one.under?.abort()) });
  const anew = el("button", { type: "button", text: "New conversation", onclick: () => { columns.forEach((one) => one.begin([])); place.replaceChildren(); judge(); text.focus(); } });
  const set = el("input", { id: "set", value: "chat", maxlength: 60, size: 10 }), toLabel = el("button", { type: "button", text: "Send to Label", disabled: true, onclick: compared });
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); say(); } }, el("label", { for: "say", text: "You" }), text,
    el("div", { class: "row", style: "margin-top: .5rem" }, send, stop, anew, el("span", { class: "grow" }), el("label", { for: "set", text: "Have people judge the two answers, in the set" }), set, toLabel));
  box.append(controls.box, el("div", { class: "side" }, columns.map((one) => one.box)), form, state, place);
  text.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); } });
  onleave(() => columns.forEach((one) => one.under?.abort()));
  if (handed) { columns[0].begin(handed.messages.slice(0, -1)); text.value = handed.messages.at(-1).content; }

  function column(side, model) {
    const options = [...(side === "right" ? [["", "nobody else"]] : []), ...models.map((one) => [one.reference, `${one.reference} · ${number(one.parameters ?? 0)}${one.talks ? "" : " · has read no conversations"}`])];
    const who = select(side, options, model), log = el("div", { class: "talk", tabindex: "0", role: "log", "aria-label": "What was said" }), how = el("details", {}, el("summary", { text: "As curl, as Python" }));
    const own = { who, log, messages: [], last: null, under: null, begin(messages) {
      own.under?.abort();
      own.messages = messages;
      own.last = null;
      log.replaceChildren(...messages.map((one) => turn(one.role, el("p", { class: "text", text: one.content }))));
    } };
    const look = el("button", { type: "button", text: "Look inside", onclick: () => inside(place, own.last ? { model: own.last.model, ...own.last.read } : { model: who.value, ...(controls.talk() ? { messages: [{ role: "user", content: text.value || "…" }] } : { text: text.value || "…" }) }) });
    how.addEventListener("toggle", () => {
      if (!how.open) return;
      const keyed = models[0].keyed, talk = controls.talk(), said = text.value.trim();
      const body = said || !own.last ? requested(own, said || "…", side) : own.last.body;  // what was asked last, or is about to be
      const draft = said || !own.last ? controls.draft(who.value) : own.last.draft;
      how.replaceChildren(how.firstChild, ...[asCurl, asPython].map((as) => copied(as(who.value, talk, body, keyed, draft))));
    });
    const alone = () => { look.hidden = how.hidden = !who.value; };
    who.addEventListener("change", () => { own.begin([]); how.open = false; alone(); judge(); });
    alone();
    own.box = el("section", { class: "card talking", "aria-label": side === "left" ? "The one model" : "The other model" },
      el("div", { class: "row" }, el("label", { for: side, text: side === "left" ? "Model" : "Beside it" }), who, look), log, how);
    return own;
  }

  function requested(own, said, side) {
    const body = { model: own.who.value, ...controls.body() };
    if (side === "right" && own.who.value === columns[0].who.value && body.seed !== undefined) body.seed += 1;  // the same model says something else
    if (!controls.talk()) return { ...body, prompt: said };
    const system = controls.system();
    return { ...body, messages: [...(system ? [{ role: "system", content: system }] : []), ...own.messages, { role: "user", content: said }] };
  }

  async function say() {
    const said = text.value.trim(), asked = columns.filter((one) => one.who.value);
    if (!said || asked.some((one) => one.under)) return;
    let bodies;
    try { bodies = asked.map((one) => requested(one, said, one === columns[0] ? "left" : "right")); } catch (error) { state.textContent = error.message; return; }
    if (controls.talk()) text.value = "";
    Object.assign(send, { disabled: true }); stop.disabled = false;
    state.textContent = controls.searches() ? "Searching …; what is found comes in one piece." : "Writing …";
    const ends = await Promise.all(asked.map((one, i) => write(one, bodies[i], said)));
    state.textContent = ends.filter(Boolean).join(" ");
    if (ends.every(Boolean)) text.value = said;
    send.disabled = false; stop.disabled = true;
    judge();
    text.focus();
  }

  async function write(own, body, said) {
    const talk = controls.talk(), draft = controls.draft(body.model), tokens = weighed("Answer"), line = el("p", { class: "dim", text: "…" });
    own.under = new AbortController();
    own.log.append(turn("you", el("p", { class: "text", text: said })), turn("model", tokens.box, line));
    let answer = "", ended = "", fault = "", began = controls.searches() ? performance.now() : 0, used = null;
    try {
      for await (const piece of stream(body.model, talk, body, own.under.signal, draft)) {
        began ||= performance.now();
        answer += piece.text;
        tokens.add(piece.tokens);
        ended = piece.ended ?? ended;
        used = piece.used ?? used;
        own.log.scrollTop = own.log.scrollHeight;
      }
    } catch (error) { if (error.name === "AbortError") ended = "stopped"; else fault = error.message; }
    own.under = null;
    const spent = (performance.now() - began) / 1000, pace = tokens.count() > 1 && spent > 0 ? `, ${number(tokens.count() / spent)} a second` : "";
    line.textContent = fault || `${number(tokens.count())} tokens${pace}${{ length: "; its longest", stopped: "; stopped" }[ended] ?? ""}${stood(used)}`;
    line.className = fault ? "bad" : "dim";
    const read = talk ? { messages: [...body.messages, ...(answer ? [{ role: "assistant", content: answer }] : [])] } : { text: said + answer };
    own.last = { model: body.model, body, draft, prompt: talk ? body.messages : [{ role: "user", content: said }], answer, read };
    if (talk && answer) own.messages = [...own.messages, { role: "user", content: said }, { role: "assistant", content: answer }];
    return fault;
  }

  function judge() {
    const [one, other] = columns.map((column) => column.last);
    const fits = one && other && one.answer && other.answer && one.answer !== other.answer && JSON.stringify(one.prompt) === JSON.stringify(other.prompt);
    toLabel.disabled = !fits;
    toLabel.title = fits ? "" : "Two models have to have answered the same, each in its own words; begin a new conversation where they have been told different things";
  }

  async function compared() {
    try {
      const said = await post("/api/compare", { set: set.value.trim(), messages: columns[0].last.prompt, answers: columns.map((one) => one.last.answer) });
      state.replaceChildren(said.new ? `Added; the set has ${number(said.items)}. ` : "They are there already. ", el("a", { href: `#/label/${encodeURIComponent(set.value.trim())}`, text: "Judge them" }));
      toLabel.disabled = true;
    } catch (error) { state.textContent = error.message; }
  }
}

function stood(used) {  // how many guesses were right, where there were some
  const { accepted_prediction_tokens: right, rejected_prediction_tokens: wrong } = used?.completion_tokens_details ?? {};
  return right === undefined ? "" : `; ${percent(right / (right + wrong), 0)} of ${number(right + wrong)} guesses stood`;
}

function turn(who, ...parts) {
  return el("div", { class: "turn" }, el("p", { class: "who dim", text: who }), parts);
}

function copied(text) {
  const button = el("button", { type: "button", text: "Copy", onclick: async () => { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } });
  return el("div", { class: "copied" }, el("pre", { tabindex: "0", text }), button);
}
