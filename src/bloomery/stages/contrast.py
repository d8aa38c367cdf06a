"""`Contrast`: the same data, the same steps, and a few ways to build or train a model side by side, in one plot.

    trials/<i>.json      each trial's loss at every step, what came of it, and its figures
    contrast.txt         the table
    contrast.html        the table and the plot
"""

from __future__ import annotations

import time
from html import escape
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, NumericsError
from bloomery.core.units import Steps, Tokens, human_count, human_seconds
from bloomery.data import Cut, Packed, Packing, TokenShards
from bloomery.models import ModelConfig
from bloomery.objectives import CausalLM, Objective
from bloomery.optim import AdamW, OptimizerConfig, Schedule, WarmupCosine
from bloomery.stages.look import COLOURS, document, plot, table, text_page
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer
from bloomery.store import Workspace, read_json, write_json, write_text
from bloomery.text.tokenizer import Tokenizer
from bloomery.train import Course, Manner, TrainState, train
from bloomery.train.watch import held_out

RISEN = 1.1  # times the first loss: more than the difference of two batches
SMOOTHED = 40  # points that a curve is drawn with
HELD_OUT_TOKENS = 65_536


class Trial(Config):
    """One of the ways that are set side by side."""

    name: str
    """In the table and beside its curve."""
    model: ModelConfig
    """What is trained."""
    optimizer: OptimizerConfig = AdamW()
    """How gradients become updates."""
    schedule: Schedule = WarmupCosine()
    """The course of the learning rate."""
    objective: Objective = CausalLM()
    """The loss."""
    clip_norm: Annotated[float, Gt(0)] | None = 1.0
    """Largest global norm of the gradient; None clips nothing."""


class Contrast(Stage):
    """Trains several trials on the same rows for the same steps, whatever becomes of them: a trial that diverges is a result.

    A trial has *diverged* when its loss is no longer a number, or ends a tenth above where it began; it is *stuck* when it ends no better
    than a guess by the tokens' frequencies (their entropy, in nats). Each trial is short: it is not resumed within, but a finished one is kept.
    """

    title: str
    """At the head of the page: what the choice is."""
    tokenizer: TrainTokenizer | LoadTokenizer
    """The tokenizer of both corpora."""
    tokens: Tokenize
    """What is trained on."""
    held_out: Tokenize
    """What is measured at the end."""
    trials: tuple[Trial, ...]
    """The ways to be compared."""
    packing: Packing = Cut()
    """How documents become rows."""
    max_seq_len: Tokens
    """Tokens in a row."""
    batch_tokens: Tokens
    """Tokens in a step, padding included; a multiple of max_seq_len."""
    steps: Steps
    """Optimiser steps of each trial."""
    seed: int = 0
    """Of initial weights and of the order of documents."""

    def check(self) -> None:
        names = [trial.name for trial in self.trials]
        if len(set(names)) < len(names) or not names:
            raise self.refuse("trials", "must be one or more of different names; name each for its choice")
        for corpus in (self.tokens, self.held_out):
            if corpus.tokenizer != self.tokenizer:
                raise ConfigError(f"Contrast.tokenizer={self.tokenizer.reference} is not that of {corpus.reference}; use one for all")
        if self.batch_tokens % self.max_seq_len:
            raise self.refuse("batch_tokens", f"is not a multiple of max_seq_len={self.max_seq_len}; {self.max_seq_len} would be")

    def estimate(self) -> str:
        flops = sum(trial.model.flops_per_token(self.max_seq_len) for trial in self.trials) * self.steps * self.batch_tokens
        return f"{len(self.trials)} trials of {human_count(self.steps * self.batch_tokens)} tokens, {human_count(flops)}FLOP"

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        shards, aside = TokenShards.open(inputs[self.tokens]), TokenShards.open(inputs[self.held_out])
        tokenizer = Tokenizer.load(inputs[self.tokenizer].checked("tokenizer.json"))
        guess = entropy(shards)
        results = []
        for number, trial in enumerate(self.trials):
            path = workspace.path / "trials" / f"{number}.json"
            if not path.exists():
                write_json(path, self._try(trial, shards, aside, tokenizer, guess, context))
            results.append(read_json(path))
            context.say(f"{self.reference}: {in_words(results[-1])}")
        text = text_of(self.title, results, guess)
        write_text(workspace.path / "contrast.txt", text)
        write_text(workspace.path / "contrast.html", page_of(self.title, results, guess))
        context.say(text)
        return {f"{result['name']}: {what}": result[what] for result in results for what in ("outcome", "last_loss", "bits_per_byte")}

    def _try(
        self, trial: Trial, shards: TokenShards, aside: TokenShards, tokenizer: Tokenizer, guess: float, context: RunContext
    ) -> dict[str, Any]:
        """Trains one, and says what came of it."""
        model = trial.model.build(self.seed).to(context.device)
        state = TrainState(model, trial.optimizer.build(model), None)
        rows = self.batch_tokens // self.max_seq_len
        course = Course(
            objective=trial.objective, schedule=trial.schedule, steps=self.steps, rows=rows, clip_norm=trial.clip_norm, seed=self.seed,
        )
        manner = Manner(micro_batch=min(rows, context.micro_batch or rows), device=context.device)
        source = Packed(shards, self.packing, time=self.max_seq_len, seed=self.seed, name=self.tokens.name)
        losses: list[float] = []
        norms: list[float] = []
        ended, started = "", time.perf_counter()
        try:
            for report in train(state, source, course, manner):
                losses.append(report.loss)
                norms.append(report.grad_norm)
                context.progress(f"{self.reference}: {trial.name}: step {report.step} of {self.steps}, loss {report.loss:.3f}")
        except NumericsError as error:
            ended = str(error).split(";")[0]
        seconds = time.perf_counter() - started
        bits = None
        if not ended:
            found = held_out(
                model, aside, tokenizer, time=self.max_seq_len, tokens=HELD_OUT_TOKENS, rows=rows, device=context.device,
            )
            bits = found["bits_per_byte"]
        last = float(np.mean(losses[-max(1, len(losses) // 10) :])) if losses else None
        outcome = "learns"
        if ended or last is None or last > RISEN * losses[0]:
            outcome = "diverges"
        elif last >= guess:
            outcome = "is stuck"
        return {
            "name": trial.name, "outcome": outcome, "ended": ended, "parameters": trial.model.n_params, "loss": losses, "grad_norm": norms,
            "last_loss": last, "bits_per_byte": bits, "seconds": round(seconds, 2),
        }


def entropy(shards: TokenShards) -> float:
    """Nats per token of a guess by the tokens' frequencies: −Σ p ln p."""
    counts = np.zeros(shards.vocab_size, np.int64)
    for number in range(len(shards)):
        counts += np.bincount(shards.document(number), minlength=shards.vocab_size)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def in_words(result: dict[str, Any]) -> str:
    """One line on what came of a trial."""
    if result["ended"]:
        return f"{result['name']} diverges: {result['ended']}"
    return f"{result['name']} {result['outcome']}: loss {result['last_loss']:.3f}, {result['bits_per_byte']:.3f} bits per byte held out"


HEAD = ("trial", "outcome", "parameters", "first loss", "last loss", "held-out bits per byte", "largest gradient norm", "time")


def _rows(results: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    def number(value: float | None, places: int = 3) -> str:
        return "–" if value is None else f"{value:.{places}f}"

    return [
        (
            r["name"], r["outcome"], human_count(r["parameters"]), number(r["loss"][0] if r["loss"] else None), number(r["last_loss"]),
            number(r["bits_per_byte"]), f"{max(r['grad_norm'], default=float('nan')):.3g}", human_seconds(r["seconds"]),
        )
        for r in results
    ]  # fmt: skip


def text_of(title: str, results: list[dict[str, Any]], guess: float) -> str:
    """The table in plain text."""
    return text_page(title, [HEAD, *_rows(results)], (), [f"a guess by the tokens' frequencies has a loss of {guess:.3f}"])


def page_of(title: str, results: list[dict[str, Any]], guess: float) -> str:
    """The table and the plot as HTML."""

    def draw(axes: Any) -> None:
        for result, (colour, style) in zip(results, ((c, s) for s in ("-", "--", ":") * len(results) for c in COLOURS), strict=False):
            steps, values = smoothed(result["loss"])
            axes.plot(steps, values, style, color=colour, linewidth=1.3, label=result["name"])
            if result["outcome"] == "diverges" and steps:
                axes.plot(steps[-1:], values[-1:], "x", color=colour)
        axes.axhline(guess, color="#5b6570", linewidth=0.8, linestyle=":", label="guess by frequency")
        axes.set_ylim(0, 2 * guess)

    figure = f'<div class="plots">{plot("training loss, nats per token", draw)}</div>'
    return document(title, f"<h1>{escape(title)}</h1>{figure}{table(HEAD, [tuple(map(escape, row)) for row in _rows(results)], range(2, 8))}")


def smoothed(values: list[float], points: int = SMOOTHED) -> tuple[list[float], list[float]]:
    """The means of a curve over stretches of equal length, each at its middle."""
    n = min(points, len(values))
    edges = [len(values) * i // n for i in range(n + 1)] if n else [0]
    return [(a + b + 1) / 2 for a, b in pairwise(edges)], [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
