"""`Patient`: a training as it would start, with what checks ask of it; `Finding`: what a check says."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from bloomery.core.rng import derive_seed
from bloomery.data import Batch, Packed, RowTask, Source
from bloomery.data.mixture import Mixture
from bloomery.data.tasks import Posed
from bloomery.models import Electra, Model, ModelConfig
from bloomery.objectives import Models, Objective
from bloomery.optim import OptimizerConfig
from bloomery.planning.memory import Memory
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.inside import Inside
from bloomery.train.manner import Precision, autocast
from bloomery.train.memory import Plan
from bloomery.train.passes import divided, figures_of

Verdict = Literal["pass", "warn", "fail"]
MOST_ROWS = 16  # that are looked at for the sake of corpora that come up seldom


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check says of one thing.

    Attributes:
        check: what it is about, in a few words.
        verdict: "pass"; "warn" where it may be meant; "fail" where it cannot be.
        figure: what was measured, and on what.
        rule: what it should be.
        remedy: what to do about it; empty where nothing is to be done.
        details: further figures, a line each.
    """

    check: str
    verdict: Verdict
    figure: str
    rule: str
    remedy: str = ""
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.verdict}  {self.check}: {self.figure}; {self.rule}" + (f". {self.remedy}" if self.remedy else "")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How thoroughly to look.

    Attributes:
        tokens: that are read, about.
        directions: of finite differences, per role of parameters.
        steps: in which one batch is to be learnt by heart.
        probes: tokens that are changed, per row.
    """

    tokens: int
    directions: int
    steps: int
    probes: int


FULL = Effort(tokens=2048, directions=3, steps=100, probes=8)
QUICK = Effort(tokens=512, directions=1, steps=40, probes=3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patient:
    """A training as it would start. Checks work on copies, and leave it as it is.

    Attributes:
        config: of the model.
        model: with the weights of step 0, on its device.
        weights: whether these are fresh, or come from a training.
        source: the rows, under the task.
        again: makes the same source once more, from nothing.
        tokenizer: of the rows.
        task: what is to be learnt from rows.
        objective: the loss.
        optimizer: how gradients become updates.
        rate: factor on the learning rates when the batch is full.
        clip_norm: largest norm of the gradient; None clips nothing.
        rows: per step.
        micro_batch: rows per forward pass.
        plan: what steps hold in memory, by rows per forward pass.
        instead: what they hold under other settings; see `Needs`.
        precision: of matrix products.
        seed: of the training.
        frozen: the models that the objective asks beside it.
        said: for documents that are conversations, by id: the texts in them that are to be learnt.
        effort: how thoroughly to look.
    """

    config: ModelConfig
    model: Model
    weights: Literal["fresh", "trained"]
    source: Source
    again: Callable[[], Source]
    tokenizer: Tokenizer
    task: RowTask
    objective: Objective
    optimizer: OptimizerConfig
    rows: int
    micro_batch: int
    plan: Plan
    instead: Mapping[str, Callable[[], Memory]] = field(default_factory=dict)
    rate: float = 1.0
    clip_norm: float | None = 1.0
    precision: Precision = "fp32"
    seed: int = 0
    frozen: Mapping[str, Model] = field(default_factory=dict)
    said: Mapping[str, Sequence[str]] = field(default_factory=dict)
    effort: Effort = FULL

    @property
    def raw(self) -> Source:
        """The rows before they are put as a task."""
        return self.source.source if isinstance(self.source, Posed) else self.source

    @property
    def corpora(self) -> dict[str, Packed]:
        """The packed corpora that the rows come from, by name."""
        return packed_in(self.raw)

    @property
    def read_rows(self) -> int:
        """How many rows are looked at: two at least, and one of each corpus unless that takes too many."""
        rows, raw = max(2, -(-self.effort.tokens // self.source.time)), self.raw
        while isinstance(raw, Mixture) and rows < MOST_ROWS and not all(raw.count(rows)):
            rows += 1
        return rows

    @cached_property
    def batch(self) -> Batch:
        """The first rows."""
        return self.source.batch(0, self.read_rows).to(self.model.device)

    def copy(self) -> Model:
        """The model, to be done with as one likes."""
        return copy.deepcopy(self.model)

    def reading(self, model: Model, batch: Batch, of: Batch | None = None) -> tuple[Tensor, dict[str, float]]:
        """The loss, differentiable, and the figures of the objective, all per unit of weight of the batch, or of the one that it is a part of;
        as a step's first pass has them."""
        torch.manual_seed(derive_seed(self.seed, "step", 0))
        weights = [weight or 1.0 for weight in self.objective.weights(of or batch)]
        totals = self.objective.read(Models(model, self.frozen), batch)
        sums = {(i, name): float(value.detach()) / weights[i] for i, (total, rest) in enumerate(totals) for name, value in
                {"": total, **rest}.items()}  # fmt: skip
        return divided(totals, weights), figures_of(sums)

    @cached_property
    def _inside(self) -> dict[str, float]:
        """What is seen inside the layers on the rows, as `Inside` names it; those of both models of a pair."""
        model, found = self.copy().eval(), dict[str, float]()
        for who, one in readers(model).items():
            inside = Inside(one, "heads")
            with torch.no_grad(), inside.watched(), self.autocast():
                for row in self.batch.split(1):
                    self.reading(model, row)
            found |= {f"{who}{place}": value for place, value in inside.figures().items()}
        return found

    def inside(self, what: str) -> dict[str, float]:
        """Place → a figure of `Inside`; those of heads by their number behind the place."""
        return {place.replace(f"/{what}", ""): value for place, value in self._inside.items() if f"/{what}" in place}

    def autocast(self) -> AbstractContextManager[object]:
        """What passes run under, for their precision."""
        return autocast(self.precision, self.model.device)


def packed_in(source: Source) -> dict[str, Packed]:
    """The packed corpora that a source's rows come from, by name; none of a source that is made of something else."""
    if isinstance(source, Posed):
        return packed_in(source.source)
    if isinstance(source, Mixture):
        return {name: one for name, part in source.sources.items() for one in packed_in(part).values()}
    return {source.name: source} if isinstance(source, Packed) else {}


def readers(model: Model) -> dict[str, Model]:
    """The models that read the rows: one, or the two of a pair."""
    return {"generator/": model.generator, "discriminator/": model.discriminator} if isinstance(model, Electra) else {"": model}


def rms(tensors: Tensor | Iterable[Tensor]) -> float:
    """The root of the mean square of all their numbers."""
    parts = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    square = sum(float(part.detach().double().square().sum()) for part in parts)
    return math.sqrt(square / max(1, sum(part.numel() for part in parts)))
