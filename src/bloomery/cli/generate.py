"""`bloomery generate`: what a model writes to many prompts, as JSON lines; what is there already is not written again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from bloomery.cli.given import artifact_of
from bloomery.cli.values import value_of
from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.rng import derive_seed
from bloomery.generate import (
    Beam,
    Contrastive,
    Decoding,
    DoLa,
    Draft,
    Drafter,
    EarlyExit,
    Frequency,
    Greedy,
    Json,
    LogitBias,
    Ngram,
    NoRepeatedSentence,
    NoRepeatNGram,
    OneOf,
    Presence,
    Random,
    Regex,
    Repetition,
    Sampler,
    Writer,
)
from bloomery.stages.trained import tokenizer_of, verified
from bloomery.stages.writing import writing
from bloomery.store import Artifact, Journal, read_json, write_json
from bloomery.text.chat import ChatTemplate
from bloomery.text.tokenizer import Tokenizer

AT_ONCE = 64  # texts that are written together: always the same ones, so that no interruption changes a bit
TELL_EVERY_S = 2.0
BY: dict[str, type[Config]] = {kind.kind(): kind for kind in (Greedy, Random, Beam, Contrastive)}
DRAFTERS: dict[str, type[Config]] = {kind.kind(): kind for kind in (Ngram, Draft, EarlyExit)}
RULES: dict[str, type[Config]] = {kind.kind(): kind for kind in (
    Repetition, Presence, Frequency, NoRepeatNGram, NoRepeatedSentence, LogitBias, OneOf, Regex, Json)}  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """A line of the prompts.

    Attributes:
        given: as it was given: {"prompt": text}, or {"messages": […]}.
        ids: as the model reads it.
    """

    given: dict[str, Any]
    ids: list[int]


def decoding_of(
    by: str | Sampler, rules: Sequence[str], contrast: str | None, stops: Sequence[str], max_new_tokens: int, draft: Drafter | None = None
) -> Decoding:
    """What the options come to."""
    return Decoding(
        by=value_of(by, "--by", BY) if isinstance(by, str) else by, rules=tuple(value_of(rule, "--rule", RULES) for rule in rules),
        contrast=None if contrast is None else value_of(contrast, "--contrast", {"DoLa": DoLa}), stops=tuple(stops),
        max_new_tokens=max_new_tokens, draft=draft,
    )  # fmt: skip


def drafter_of(text: str | None, store_path: Path) -> Drafter | None:
    """What an option says that guesses; the model of a `Draft` is told as any other."""
    drafter = None if text is None else value_of(text, "--draft", DRAFTERS)
    return drafter.replace(model=verified(artifact_of(str(drafter.model), store_path)).path) if isinstance(drafter, Draft) else drafter


@dataclass(frozen=True)
class Job:
    """Texts to be written: number n is sample n mod `samples` of prompt n div `samples`.

    Attributes:
        writer: who writes.
        prompts: to which.
        samples: texts to each.
        seed: of what is drawn.
    """

    writer: Writer
    prompts: Sequence[Prompt]
    samples: int
    seed: int

    @property
    def total(self) -> int:
        """How many texts there are."""
        return len(self.prompts) * self.samples

    def lines(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """What is written for some of them, one line each."""
        model, tokenizer = self.writer.model, self.writer.tokenizer
        about = model.config.reads_passage  # an encoder–decoder reads the prompt as its passage
        longest = model.config.max_seq_len - (not about)
        fits = [n for n in numbers if len(self._prompt(n).ids) <= longest]
        ids, seeds = [self._prompt(n).ids for n in fits], [derive_seed(self.seed, n // self.samples, n % self.samples) for n in fits]
        found = self.writer.write([[tokenizer.begin]] * len(ids) if about else ids, seeds, ids if about else None)
        written = dict(zip(fits, found, strict=True))
        lines = []
        for n in numbers:
            line = {"number": n, **self._prompt(n).given} | ({"sample": n % self.samples} if self.samples > 1 else {})
            if n in written:
                line |= {"text": written[n].text, "ended": written[n].ended, "tokens": len(written[n].tokens)}
                line |= {} if written[n].score is None else {"score": written[n].score}
            else:
                line |= {"text": "", "fault": f"the prompt has {len(self._prompt(n).ids)} tokens; the model reads at most {longest}"}
            lines.append(line)
        return lines

    def _prompt(self, number: int) -> Prompt:
        return self.prompts[number // self.samples]


def generate(
    artifact: Artifact, lines: Iterable[str], decoding: Decoding, *, output: Path | None, samples: int, seed: int, raw: bool, device: str,
    weights: str | None = None, past: str | None = None,
) -> None:
    """Writes to each prompt, and puts what comes of it into `output`, or prints it.

    Raises:
        DataError: a line is no prompt.
        ConfigError: the output is that of other prompts or settings.
    """
    tokenizer = tokenizer_of(artifact)
    job = Job(Writer(writing(artifact, device, weights, past), tokenizer, decoding), list(prompts_in(lines, tokenizer, raw)), samples, seed)
    journal, done = None, set()
    if output is not None:
        _same_as_before(output, {
            "model": artifact.reference, "decoding": decoding.identity(), "samples": samples, "seed": seed, "raw": raw,
            "weights": weights, "past": past, "prompts": sha256(json.dumps([prompt.given for prompt in job.prompts]).encode()).hexdigest(),
        })  # fmt: skip
        journal = Journal(output)
        done = {line["number"] for line in journal}
    told, started, tokens = 0.0, time.monotonic(), 0
    for start in range(0, job.total, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, job.total))
        if done.issuperset(numbers):
            continue
        found = [line for line in job.lines(numbers) if line["number"] not in done]
        if journal is None:
            click.echo("\n".join(json.dumps(line, ensure_ascii=False) for line in found))
        else:
            journal.append(found)
        tokens, now = tokens + sum(line.get("tokens", 0) for line in found), time.monotonic()
        if now - told > TELL_EVERY_S or numbers.stop == job.total:
            told = now
            click.echo(f"{numbers.stop} of {job.total} written, {tokens / (now - started):.0f} tokens/s", err=True)
    if journal is not None:
        journal.settle("number")


def prompts_in(lines: Iterable[str], tokenizer: Tokenizer, raw: bool) -> Iterator[Prompt]:
    """The prompts of some lines: a JSON object with `prompt` or `messages`, or the line itself; empty lines are passed over."""
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        given: dict[str, Any] = {"prompt": text}
        if text.startswith("{"):
            try:
                given = json.loads(text)
            except ValueError as error:
                raise DataError(f"line {number} of the prompts begins like JSON and is none ({error}); write {{\"prompt\": …}}") from None
        if isinstance(given.get("prompt"), str):
            messages = [{"role": "user", "content": given["prompt"]}]
        elif raw or not isinstance(given.get("messages"), list):
            raise DataError(f"line {number} of the prompts has no {'prompt' if raw else 'prompt and no messages'}; it has {', '.join(given)}")
        else:
            messages = given["messages"]
        ids = [tokenizer.begin, *tokenizer.encode(given["prompt"])] if raw else ChatTemplate().render(messages, tokenizer, True).ids
        yield Prompt(given, ids)


def _same_as_before(output: Path, settings: dict[str, Any]) -> None:
    """Notes beside the output what it is made with; refuses to go on with that of something else."""
    beside = output.with_name(output.name + ".settings.json")
    if output.exists():
        before = read_json(beside) if beside.exists() else {}
        if differing := [name for name in settings if before.get(name) != settings[name]]:
            raise ConfigError(f"--output {output} holds what was written with another {differing[0]}; give another file, or delete it")
    write_json(beside, settings)
