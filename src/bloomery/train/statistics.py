"""`Statistics`: what is measured of each layer while a model is trained, on request. Nothing of it changes the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.data.source import Source
from bloomery.mesh import Held
from bloomery.train.inside import Attention, Inside
from bloomery.train.loop import Course, StepReport
from bloomery.train.manner import Manner, autocast
from bloomery.train.state import TrainState
from bloomery.train.strands import strands

Write = Callable[[int, Mapping[str, float]], None]


class Statistics(Config):
    """What is measured of each layer i (role: query, key, value, mixer_out, ff_in, ff_up, ff_out, other; vector: norms and biases).

        layers/i/activation_rms, …/activation_max    of the residual stream behind the layer
        layers/i/dead_units                          share of the feed-forward units whose input was above 0 at no place
        layers/i/attention_entropy[/head]            0 where each query looks at one key, 1 where it looks at all that it sees alike
        layers/i/gradient_rms/role                   of the step's gradient as it was applied, clipped
        layers/i/weight_rms/role                     behind the step
        layers/i/update_ratio/role                   RMS of what the step changed over RMS of the weights

    and the last three of embedding and head. Activations and attention are those of a forward pass of its own, without gradients, behind
    the step, on the step's first rows: the figures are the same under any micro-batch.
    """

    every: Annotated[int, Gt(0)]
    """Steps between measurements; the last step is always measured."""
    attention: Attention = "heads"
    """Whether attention is measured: of each head, the mean of a layer's heads, or not at all."""
    rows: Annotated[int, Gt(0)] = 4
    """Rows that activations and attention are measured on, at most."""


class Inspector:
    """Measures what `Statistics` asks for, along a training.

    Args:
        statistics: what, and how often.
        state: of the training.
        source: its rows.
        course: what decides its numbers.
        manner: how they are computed.

    Raises:
        ConfigError: ranks share the inside of layers, so that none has all of it.
    """

    def __init__(self, statistics: Statistics, state: TrainState, source: Source, course: Course, manner: Manner) -> None:
        self.statistics, self.state, self.source, self.course, self.manner = statistics, state, source, course, manner
        layout = state.holding.mesh.layout
        if layout.pipeline * layout.context * layout.tensor > 1:
            raise ConfigError(f"--layout {layout}: Train.watch.statistics looks into layers, of which no rank has all under pipeline, context "
                              "or tensor; take replicate and shard, or leave statistics out")  # fmt: skip
        self.strands = strands(state.model)
        self.left_out: set[str] = set()
        """Kinds of mixers that no attention was told of."""

    def over(self, reports: Iterator[StepReport], write: Write, say: Callable[[str], None]) -> Iterator[StepReport]:
        """The same reports; those steps that are due are measured before their report is handed on.

        Args:
            reports: of the training.
            write: is given the step and its figures.
            say: is told what is left out, once.
        """
        while True:
            due = self.due(self.state.step + 1)
            before = {held.name: held.local.detach().clone() for held in self.state.holding.trainable()} if due else {}
            report = next(reports, None)
            if report is None:
                return
            if due:
                write(report.step, self.activations(report.step, say) | self.changes(before))
            yield report

    def due(self, step: int) -> bool:
        """Whether a step is measured."""
        return step % self.statistics.every == 0 or step == self.course.steps

    def activations(self, step: int, say: Callable[[str], None]) -> dict[str, float]:
        """Of activations and attention, on the first rows of a step."""
        model, inside = self.state.model, Inside(self.state.model, self.statistics.attention)
        batches = self.course.ramp.batches(self.course.rows, self.source.time)
        first_row = batches.rows_before(step - 1) + self.state.known.skipped_rows
        batch = self.source.batch(first_row, min(self.statistics.rows, batches.rows_of(step - 1)))
        model.eval()
        with torch.no_grad(), inside.watched():
            for row in batch.split(1):  # a row at a time: the squares of attention are what is large here
                self._read(row)
        model.train()
        if new := inside.left_out - self.left_out:
            say(f"statistics: no attention entropy of {', '.join(sorted(new))}, whose weights are not those of plain softmax attention")
            self.left_out |= new
        return inside.figures()

    def changes(self, before: Mapping[str, Tensor]) -> dict[str, float]:
        """Of gradients, weights and updates, with the weights as they were before the step."""
        squares: dict[tuple[str, str, str], list[Tensor]] = {}
        sizes: dict[tuple[str, str, str], int] = {}
        for held in self.state.holding.trainable():
            strand = self.strands[held.parameter]
            for what, whole in _wholes(held, before[held.name]).items():
                for role, matrix in zip(strand.roles, strand.split(whole), strict=True):
                    place = strand.place, what, role
                    squares.setdefault(place, []).append(matrix.double().square().sum())
                    sizes[place] = sizes.get(place, 0) + matrix.numel()
        if not squares:
            return {}
        sums = torch.stack([torch.stack(of_place).sum() for of_place in squares.values()]).tolist()
        rms = {place: (total / sizes[place]) ** 0.5 for place, total in zip(squares, sums, strict=True)}
        figures: dict[str, float] = {}
        for (place, what, role), value in rms.items():
            if what != "update":
                figures["/".join(filter(None, (place, f"{what}_rms", role)))] = value
            elif weight := rms[place, "weight", role]:
                figures["/".join(filter(None, (place, "update_ratio", role)))] = value / weight
        return figures

    def _read(self, row: Batch) -> None:
        with autocast(self.course.precision, self.manner.device):
            self.course.objective.read(self.state.models, row.to(self.manner.device))


def _wholes(held: Held, before: Tensor) -> dict[str, Tensor]:
    """A parameter's weights, its update and its gradient, whole, from the parts that ranks have of them; all ranks must ask."""
    local, gradient = held.local.detach(), held.local.grad
    found = {"weight": held.whole(local), "update": held.whole(local - before)}
    return found if gradient is None else found | {"gradient": held.whole(gradient)}
