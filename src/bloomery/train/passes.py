"""Forward and backward passes of a step on this rank: micro-batch after micro-batch, or along a pipeline. What they add up to is the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from bloomery.data.batch import Batch
from bloomery.mesh import Holding, Pipeline, accumulate
from bloomery.models import Transformer
from bloomery.objectives import Models, Objective, Reading, Total
from bloomery.train.manner import Manner, Precision, autocast, compute_in

ALONG, ASKED = "along", "asked "  # what comes along with the sums


class Sums:
    """What the micro-batches of a step add up to: totals and metrics of each term, on this rank, then on all.

    Args:
        weights: of the terms, over the whole step.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = weights
        self._sums: dict[tuple[int, str], Tensor] = {}

    def add(self, totals: Sequence[Total]) -> None:
        """Those of one more micro-batch."""
        for term, (total, metrics) in enumerate(totals):
            for name, value in {"": total.detach(), **metrics}.items():
                self._sums[term, name] = self._sums[term, name] + value if (term, name) in self._sums else value

    def add_once(self, total: Total) -> None:
        """This rank's part of a term that is no sum over rows: it counts once a step, with a weight of 1."""
        term, (value, metrics) = len(self.weights), total
        self.weights = (*self.weights, 1.0)
        self._sums |= {(term, name): one for name, one in {"": value, **metrics}.items()}

    def over(
        self, holding: Holding, along: Sequence[Tensor] = (), asked: Mapping[str, float] | None = None, copies: int = 1
    ) -> dict[tuple[int, str], float]:
        """The sums over all ranks, each of which has seen rows, stretches of time, or the end of the pipeline, of its own; in one transfer.

        Args:
            holding: the ranks.
            along: numbers that all of them have, to be brought along as (0, "along"), (1, "along"), …
            asked: numbers by name, to be added up with the others as (0, "asked NAME").
            copies: how many ranks have each seen the same.
        """
        mesh, names, asked = holding.mesh, list(self._sums), asked or {}
        if mesh.layout.pipeline > 1:  # only the last stage knows
            told = json.loads(mesh.axis("pipeline").tell(json.dumps(names), mesh.layout.pipeline - 1))
            names = [(int(term), str(name)) for term, name in told]
        zero = torch.zeros((), device=holding.mesh.device)
        sums = torch.stack([self._sums.get(name, zero).double() for name in names])
        sums = mesh.world.sum_(torch.cat((sums, sums.new_tensor(list(asked.values()))))) / copies
        names += [*((0, ASKED + name) for name in asked), *((number, ALONG) for number in range(len(along)))]
        return dict(zip(names, torch.cat((sums, *(one.double()[None] for one in along))).tolist(), strict=True))

    def means(
        self, holding: Holding, along: Sequence[Tensor], asked: Mapping[str, float] | None = None
    ) -> tuple[dict[str, float], list[float], dict[str, float]]:
        """Loss and metrics per unit of weight over all ranks; numbers that all have, as they are; and the sums of what ranks have asked for."""
        sums = self.over(holding, along, asked)
        brought = [sums.pop((number, ALONG)) for number in range(len(along))]
        asked = {name: sums.pop((0, ASKED + name)) for name in asked or {}}
        return figures_of({(term, name): value / self.weights[term] for (term, name), value in sums.items()}), brought, asked

    def loss(self) -> Tensor:
        """What this rank has of the sum of all terms, per unit of weight."""
        return sum((total / self.weights[term] for (term, name), total in self._sums.items() if not name), torch.zeros(()))


def figures_of(means: Mapping[tuple[int, str], float]) -> dict[str, float]:
    """What the terms of an objective come to, by name: `loss`, which all of them add up to, and each metric, of the first term that has it.

    Args:
        means: by the number of the term and the name of the metric, "" for the term's total, per unit of its weight.
    """
    figures = {"loss": sum(mean for (_, name), mean in means.items() if not name)}
    for (_, name), mean in means.items():
        if name:
            figures.setdefault(name, mean)
    return figures


class Passes(Protocol):
    """The passes of a step."""

    def __call__(self, batch: Batch, weights: Sequence[float], learn: bool = True, scale: float = 1.0) -> Sums:
        """Does them.

        Args:
            batch: this rank's rows of the step.
            weights: of each term over all rows of the step.
            learn: whether there are backward passes, which leave gradients behind.
            scale: what these gradients are multiplied by.

        Returns:
            What totals and metrics add up to.
        """
        ...


def passes(models: Models, holding: Holding, objective: Objective, manner: Manner, precision: Precision) -> Passes:
    """The passes as the layout asks for them.

    Raises:
        ConfigError: the device cannot compute in that precision.
    """
    compute_in(models.policy, precision, manner.device)
    if holding.mesh.layout.pipeline > 1:
        return Pipelined(models, holding, objective, manner, precision)
    return Plain(models, holding, objective, manner, precision)


class Plain:
    """One micro-batch after the other, each forward and backward."""

    def __init__(self, models: Models, holding: Holding, objective: Objective, manner: Manner, precision: Precision) -> None:
        self.model, self.holding, self.manner = models.policy, holding, manner
        self.models, self.objective = models, objective
        self.totals_of: Callable[..., Any] = torch.compile(objective.read, dynamic=False) if manner.compiled else objective.read
        self.context = partial(autocast, precision, manner.device)

    def __call__(self, batch: Batch, weights: Sequence[float], learn: bool = True, scale: float = 1.0) -> Sums:
        sums, time = Sums(weights), self.holding.mesh.time
        parts = list(batch.split(self.manner.micro_batch))
        for number, part in enumerate(parts):
            accumulate(self.model, self.holding.mesh, number == len(parts) - 1)
            with self.context():
                totals = self.totals_of(self.models, part.share(time.index, time.size).to(self.manner.device))
            if learn:
                torch.autograd.backward(divided(totals, weights) * scale)
            sums.add(totals)
        return sums


class Pipelined:
    """Along a pipeline of ranks that each hold some of the layers."""

    def __init__(self, models: Models, holding: Holding, objective: Objective, manner: Manner, precision: Precision) -> None:
        assert isinstance(models.policy, Transformer)
        self.model, self.holding, self.manner, self.objective = models.policy, holding, manner, objective
        self.models, self.pipeline = models, Pipeline(holding.mesh, len(self.model.blocks))
        self.context = partial(autocast, precision, manner.device)

    def __call__(self, batch: Batch, weights: Sequence[float], learn: bool = True, scale: float = 1.0) -> Sums:
        sums, mesh = Sums(weights), self.holding.mesh
        parts = [part.share(mesh.time.index, mesh.time.size).to(self.manner.device) for part in batch.split(self.manner.micro_batch)]
        spans, d_model = self.pipeline.spans, self.model.config.d_model
        accumulate(self.model, mesh, True)

        def forward(stage: int, micro: int, x: Tensor | None) -> Tensor:
            part = parts[micro]
            with self.context():
                y = self.model.through(x, part.tokens, part.layout, spans[stage])
                if stage < len(spans) - 1:
                    return y.float()
                totals = self.objective.totals(Reading(self.models, part, features=y))
            sums.add(totals)
            return divided(totals, weights) * scale

        like = [part.tokens.new_empty((*part.tokens.shape, d_model), dtype=torch.float32) for part in parts]
        self.pipeline.run(forward, len(parts), like, learn)
        return sums


def divided(totals: Sequence[Total], weights: Sequence[float]) -> Tensor:
    """The loss of a micro-batch as its share of the step's: Σ totalᵢ / Wᵢ."""
    per_term = [total / weight for (total, _), weight in zip(totals, weights, strict=True)]
    return sum(per_term[1:], per_term[0])
