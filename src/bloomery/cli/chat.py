"""Talking to a model in the terminal: the answer streams as it is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from bloomery.cli.generate import decoding_of
from bloomery.generate import Greedy, Random, Writer
from bloomery.models.model import CausalModel
from bloomery.stages.trained import tokenizer_of
from bloomery.stages.writing import writing
from bloomery.store import Artifact
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer

RESERVED = 8  # tokens that must be free for an answer before older turns are left out


def converse(
    artifact: Artifact, *, temperature: float, top_p: float, max_new_tokens: int, seed: int, say: Sequence[str], raw: bool,
    min_p: float = 0.0, rules: Sequence[str] = (), stops: Sequence[str] = (),
) -> None:
    """Holds a conversation, or answers each of `say` and returns."""
    model, tokenizer = writing(artifact, "cpu"), tokenizer_of(artifact)
    sampler = Random(temperature=temperature, top_p=top_p, min_p=min_p) if temperature > 0 else Greedy()
    writer = Writer(model, tokenizer, decoding_of(sampler, rules, None, stops, max_new_tokens))
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
        for piece in writer.stream(prompt, seed):
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


def _typed() -> Iterator[str]:
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            return
        if not text:
            return
        yield text
