"""The demo page: what a model has written, each token as likely as it was, and a place to talk to it where it is served from the same address.

One HTML file that asks for nothing from elsewhere; its policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch

from bloomery.generate import Decoding, Writer
from bloomery.models import CausalModel
from bloomery.nn import SequenceLayout
from bloomery.stages import look
from bloomery.stages.inert import inert, one_line
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer

STYLE = """
.talk { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem; margin: .8rem 0 }
.talk p { margin: .3rem 0 } .who { color: var(--dim); font-size: .85rem }
.said { white-space: pre-wrap; overflow-wrap: anywhere } .said span { border-radius: .2rem }
.said span[data-p] { background: color-mix(in srgb, var(--main) calc((1 - var(--p)) * 45%), transparent) }
.said span:focus-visible { outline: 2px solid var(--main) }
form { display: grid; gap: .5rem; margin-top: 1rem } form[hidden] { display: none }
form .row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: center }
textarea { font: inherit; min-height: 4rem; padding: .5rem; color: inherit; background: var(--soft); border: 1px solid var(--line);
  border-radius: .5rem }
button { font: inherit; padding: .35rem 1rem; border-radius: .5rem; border: 1px solid var(--line); background: var(--main); color: #fff;
  cursor: pointer }
button[disabled] { opacity: .5; cursor: default } input { font: inherit; width: 6rem; color: inherit; background: var(--soft);
  border: 1px solid var(--line); border-radius: .3rem; padding: .1rem .3rem }
"""

SCRIPT = """
"use strict";
const form = document.querySelector("form"), log = document.querySelector("#log"), state = document.querySelector("#state");
const served = location.protocol.startsWith("http");
const messages = [];
let under = null;
function turn(who) {
  const box = document.createElement("div"), name = document.createElement("p"), text = document.createElement("p");
  box.className = "talk"; name.className = "who"; text.className = "said"; name.textContent = who;
  box.append(name, text); log.append(box); box.scrollIntoView({ block: "nearest" });
  return text;
}
async function ask(content) {
  messages.push({ role: "user", content });
  turn("you").textContent = content;
  const place = turn(form.dataset.model), key = form.key.value.trim();
  let answer = "";
  under = new AbortController();
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST", signal: under.signal,
      headers: { "Content-Type": "application/json", ...(key ? { Authorization: "Bearer " + key } : {}) },
      body: JSON.stringify({ model: form.dataset.model, messages, stream: true, logprobs: true,
                             temperature: Number(form.temperature.value) }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\\n\\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
        const said = JSON.parse(line.slice(6));
        if (said.error) throw new Error(said.error.message);
        const choice = said.choices[0];
        const piece = choice && choice.delta.content;
        if (!piece) continue;
        answer += piece;
        const span = document.createElement("span"), told = choice.logprobs && choice.logprobs.content;
        span.textContent = piece;
        if (told && told.length) {
          const p = Math.exp(Math.min(...told.map((one) => one.logprob)));
          span.dataset.p = ""; span.style.setProperty("--p", p); span.title = (100 * p).toFixed(1) + " %";
        }
        place.append(span);
      }
    }
    messages.push({ role: "assistant", content: answer || " " });
    state.textContent = "";
  } catch (error) {
    messages.pop();
    state.textContent = error.name === "AbortError" ? "stopped" : String(error.message || error);
  }
  under = null;
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = form.text.value.trim();
  if (!text || under) return;
  form.text.value = ""; form.send.disabled = true; form.stop.disabled = false;
  state.textContent = "writing …";
  await ask(text);
  form.send.disabled = false; form.stop.disabled = true; form.text.focus();
});
form.text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); }
});
form.stop.addEventListener("click", () => under && under.abort());
if (served) { form.hidden = false; document.querySelector("#how").hidden = true; }
"""


@dataclass(frozen=True)
class Sample:
    """A question and what a model has answered.

    Attributes:
        prompt: what was said to it.
        pieces: of the answer, as text, each with its probability.
    """

    prompt: str
    pieces: tuple[tuple[str, float], ...]


@torch.no_grad()
def samples_of(model: CausalModel, tokenizer: Tokenizer, template: ChatTemplate, prompts: Sequence[str], longest: int = 64) -> list[Sample]:
    """Has a model answer, likeliest token by likeliest token. A prompt that leaves no room for an answer is passed over."""
    found = []
    for prompt in prompts:
        ids = template.render([{"role": "user", "content": prompt}], tokenizer, add_generation_prompt=True).ids
        room = model.config.max_seq_len - len(ids)
        if room < 1 or model.config.reads_passage:
            continue
        written = Writer(model, tokenizer, Decoding(max_new_tokens=min(longest, room))).write([ids])[0].tokens
        read = torch.tensor([ids + written])[:, : model.config.max_seq_len]
        told = model(read, SequenceLayout.rows(1, read.shape[1])).float().log_softmax(-1)[0]
        likely = [float(told[len(ids) - 1 + place, token].exp()) for place, token in enumerate(written)]
        found.append(Sample(prompt, tuple(_characters(tokenizer, written, likely))))
    return found


def _characters(tokenizer: Tokenizer, tokens: Sequence[int], likely: Sequence[float]) -> list[tuple[str, float]]:
    """The text of some tokens in pieces that are whole characters, each as likely as all of its tokens."""
    pieces: list[tuple[str, float]] = []
    data, probability = b"", 1.0
    for token, p in zip(tokens, likely, strict=True):
        data, probability = data + tokenizer.token_bytes[token], probability * p
        text = data.decode(errors="ignore")
        if text.encode() == data:
            pieces.append((text, probability))
            data, probability = b"", 1.0
    return pieces + ([(data.decode(errors="replace"), probability)] if data else [])


def demo_page(name: str, figures: Sequence[tuple[str, str]], samples: Sequence[Sample] = (), serve: str = "") -> str:
    """The page.

    Args:
        name: of the model, as clients call it.
        figures: about it, each with what it is.
        samples: what it has written.
        serve: the command that serves it; shown where the page is opened as a file.
    """
    shown = "".join(_sample(name, sample) for sample in samples)
    how = f"To talk to it, serve it and open the address that is told: {look.code(one_line(serve))}" if serve else ""
    talk = (
        f'<h2 id="talk">Talk to it</h2><p id="how">{how}</p><div id="log" role="log" aria-live="polite"></div>'
        f'<form hidden data-model="{escape(name, quote=True)}"><label for="text">Your message</label>'
        '<textarea id="text" name="text" placeholder="Enter sends, Shift + Enter begins a line"></textarea>'
        '<div class="row"><button name="send">Send</button><button name="stop" type="button" disabled>Stop</button>'
        '<label>Temperature <input name="temperature" type="number" min="0" max="2" step="0.1" value="0.7"></label>'
        '<label>Key <input name="key" type="password" autocomplete="off"></label>'
        '<output id="state" class="dim"></output></div></form>'
    )  # fmt: skip
    said = '<h2>What it has written</h2><p class="dim">Likeliest token by likeliest token; the darker, the less likely.</p>'
    about = look.cards([(one_line(figure), one_line(what)) for figure, what in figures])
    body = f"<main><h1>{escape(one_line(name))}</h1>{about}{said + shown if shown else ''}{talk}</main>\n<script>{SCRIPT}</script>"
    policy = (
        f"default-src 'none'; script-src '{_hash(SCRIPT)}'; style-src-elem '{_hash(look.STYLE + STYLE)}'; "
        "style-src-attr 'unsafe-inline'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    return look.document(name, body, style=STYLE, policy=policy)


def _sample(name: str, sample: Sample) -> str:
    pieces = "".join(
        f'<span data-p style="--p:{p:.4f}" title="{p:.1%}">{escape(inert(text))}</span>' for text, p in sample.pieces
    )
    return (
        f'<div class="talk"><p class="who">you</p><p class="said">{escape(inert(sample.prompt))}</p>'
        f'<p class="who">{escape(one_line(name))}</p><p class="said">{pieces}</p></div>'
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
