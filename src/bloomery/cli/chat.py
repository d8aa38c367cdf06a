"""Talking to a model in the terminal: the answer streams as it is decoded."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence

import click

from bloomery.generate import Greedy, Random, Sampler, stream
from bloomery.models import causal, read_model
from bloomery.models.model import CausalModel
from bloomery.store import Artifact
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer

RESERVED = 8  # tokens that must be free for an answer before older turns are left out


def converse(
    artifact: Artifact, *, temperature: float, top_p: float, max_new_tokens: int, seed: int, say: Sequence[str], raw: bool
) -> None:
    """Holds a conversation, or answers each of `say` and returns."""
    for relative in artifact.manifest.files:
        if relative.startswith(("model/", "tokenizer/")):
            artifact.checked(relative)
    model = causal(read_model(artifact.path / "model")[1])
    model.eval()
    tokenizer = Tokenizer.load(artifact.path / "tokenizer" / "tokenizer.json")
    sampler: Sampler = Random(temperature=temperature, top_p=top_p) if temperature > 0 else Greedy()
    if not say:
        click.secho(f"{artifact.reference}: an empty line ends it, /new starts afresh", dim=True)
    messages: list[dict[str, str]] = []
    for text in say or _typed():
        if text == "/new":
            messages = []
            continue
        if raw:
            prompt = [tokenizer.begin, *tokenizer.encode(text)]
            click.echo(text, nl=False)
        else:
            messages.append({"role": "user", "content": text})
            prompt = fitting_prompt(messages, tokenizer, model)
        answer = ""
        ids = stream(model, prompt, sampler, {tokenizer.end}, max_new_tokens, seed, tokenizer.vocab_size)
        for piece in as_text(ids, tokenizer):
            click.echo(piece, nl=False)
            answer += piece
        click.echo()
        if not raw:
            messages.append({"role": "assistant", "content": answer or " "})


def fitting_prompt(messages: list[dict[str, str]], tokenizer: Tokenizer, model: CausalModel) -> list[int]:
    """The conversation as ids; turns that no longer fit the model's context are taken out of `messages`, oldest first, and that is said."""
    template = ChatTemplate()
    prompt = template.render(messages, tokenizer, add_generation_prompt=True).ids
    while len(prompt) + RESERVED > model.config.max_seq_len and len(messages) > 1:
        del messages[:2]
        click.secho(f"(the oldest turn is left out: the model reads {model.config.max_seq_len} tokens)", dim=True, err=True)
        prompt = template.render(messages, tokenizer, add_generation_prompt=True).ids
    return prompt


def as_text(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Text as soon as it is whole: a character of several tokens waits for its last byte."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for i in ids:
        if piece := decoder.decode(tokenizer.decode_bytes([i])):
            yield piece
    if rest := decoder.decode(b"", final=True):
        yield rest


def _typed() -> Iterator[str]:
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            return
        if not text:
            return
        yield text
