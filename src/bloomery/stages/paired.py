"""`Paired`: ways of training set side by side on held-out text, seed by seed, so that what a seed does to all of them falls out.

    paired.txt      the table, and what follows from it
    results.json    every figure of every run
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Annotated, Any

import torch
from annotated_types import Gt
from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.units import Tokens, human_count
from bloomery.data import Batch, Cut, Fit, Packed, TokenShards
from bloomery.models import Model
from bloomery.nn.chunked import logits_by_chunk
from bloomery.nn.cross_entropy import exactly
from bloomery.stages.look import text_page
from bloomery.stages.sheet import check_names, spread
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained, opened
from bloomery.store import Workspace, write_json, write_text

ROWS = 16  # per forward pass


class Way(Config):
    """A way of training, in several runs that differ in their seeds."""

    name: str
    """In the table."""
    runs: tuple[Trained, ...] = Field(min_length=1)
    """What it leaves, of each seed."""


class Paired(Stage):
    """Measures the loss and the first choices of models on the same held-out text. Run i of every way has the same seed; the first way is
    what the others are compared with, by the differences of the pairs:

        d = mean over i of (loss of the way's run i − loss of the first way's run i), with their standard deviation
    """

    title: str
    """At the head of the table."""
    ways: tuple[Way, ...] = Field(min_length=2)
    """What is compared; the plain way first."""
    beside: tuple[Trained, ...] = ()
    """Further models that are measured and not compared, such as a teacher."""
    text: Tokenize
    """What none has read."""
    max_seq_len: Tokens
    """Tokens in a row."""
    tokens: Annotated[int, Gt(0)] = 65_536
    """Measured of the text, at most, or a few more; always the same ones."""

    def check(self) -> None:
        check_names(self, "ways", self.ways)
        first = self.ways[0]
        if uneven := [way for way in self.ways if len(way.runs) != len(first.runs)]:
            raise ConfigError(f"Paired.ways: {uneven[0].name!r} has {len(uneven[0].runs)} runs and {first.name!r} {len(first.runs)}, "
                              "which make no pairs; give each way one run of each seed")  # fmt: skip

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        shards = TokenShards.open(inputs[self.text])

        def scores(trained: Trained) -> Scores:
            of, nats, right, seen = opened(inputs[trained], context.device), 0.0, 0.0, 0.0
            rows = Packed(shards, Fit() if shards.masked else Cut(), time=self.max_seq_len, seed=0).once(ROWS)
            for batch in rows:
                weight, *found = told(of, batch.to(context.device))
                nats, right, seen = nats + found[0], right + found[1], seen + weight
                if seen >= self.tokens:
                    break
            context.progress(f"{self.reference}: {trained.name}: loss {nats / seen:.4f}")
            return Scores(nats / seen, right / seen, of.config.n_params)

        found = [Figures(way.name, [scores(run) for run in way.runs]) for way in self.ways]
        page = Pairs(self.title, found, [Figures(one.name, [scores(one)]) for one in self.beside])
        write_text(workspace.path / "paired.txt", page.text())
        write_json(workspace.path / "results.json", page.plain())
        context.say(page.text())
        figures = (("loss", loss_of), ("right", right_of))
        return {f"{one.name}: {what}": round(one.mean(of), 5) for one in found for what, of in figures}


@torch.no_grad()
def told(model: Model, batch: Batch) -> tuple[float, float, float]:
    """The weight of a batch's targets, their negative log-likelihood in nats, and how much of the weight is the model's first choice."""
    learnt = batch.loss_weight > 0
    features, targets, weight = model.features(batch.tokens, batch.layout)[learnt], batch.targets[learnt], batch.loss_weight[learnt].double()
    nats = right = weight.new_zeros(())
    for part, logits in logits_by_chunk(model.head, features):
        nats = nats - (weight[part] * torch.log_softmax(exactly(logits), -1).gather(-1, targets[part, None]).squeeze(-1)).sum()
        right = right + (weight[part] * (logits.argmax(-1) == targets[part])).sum()
    return float(weight.sum()), float(nats), float(right)


@dataclass(frozen=True)
class Scores:
    """Of a model: nats per token, the share of tokens that are its first choice, and its parameters."""

    loss: float
    right: float
    parameters: int


def loss_of(scores: Scores) -> float:
    """Nats per token."""
    return scores.loss


def right_of(scores: Scores) -> float:
    """The share of first choices."""
    return scores.right


@dataclass(frozen=True)
class Figures:
    """What came of a way, seed by seed."""

    name: str
    runs: Sequence[Scores]

    def mean(self, of: Callable[[Scores], float] = loss_of) -> float:
        """Over the seeds."""
        return mean(map(of, self.runs))

    def spread(self, of: Callable[[Scores], float] = loss_of) -> float:
        """Standard deviation over the seeds; 0 of a single one."""
        return spread(list(map(of, self.runs)))

    def less(self, other: Figures, of: Callable[[Scores], float] = loss_of) -> list[float]:
        """The differences of the pairs: this way's figure less the other's."""
        return [of(mine) - of(theirs) for mine, theirs in zip(self.runs, other.runs, strict=True)]


@dataclass(frozen=True)
class Pairs:
    """The table. The first of `ways` is what the others are compared with; `beside` is only shown."""

    title: str
    ways: Sequence[Figures]
    beside: Sequence[Figures] = ()

    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""
        first, rows = self.ways[0], []
        for one in (*self.beside, *self.ways):
            compared = ("", "", "") if one is first or one in self.beside else (
                *(f"{scale * mean(by):+.{places}f} ± {scale * spread(by):.{places}f}" for by, scale, places in
                  ((one.less(first), 1, 4), (one.less(first, right_of), 100, 2))),
                f"{sum(d < 0 for d in one.less(first))} of {len(one.runs)}",
            )  # fmt: skip
            rows.append((
                one.name, human_count(one.runs[0].parameters), f"{one.mean():.4f} ± {one.spread():.4f}",
                f"{one.mean(right_of):.2%} ± {one.spread(right_of):.2%}", *compared,
            ))  # fmt: skip
        head = ("way", "parameters", "nats per token", "first choice right", f"nats less than {first.name}", "points", "better")
        return [head, *rows]

    def text(self) -> str:
        """The page in plain text."""
        seeds = len(self.ways[0].runs)
        told = f"± is the standard deviation over {seeds} seed{'s' if seeds > 1 else ''}: of the figures, and of the differences of pairs"
        return text_page(self.title, self.rows(), range(1, 7), [told])

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {one.name: [vars(run) for run in one.runs] for one in (*self.beside, *self.ways)}
