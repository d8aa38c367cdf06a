"""Which documents of a batch are to blame: each is measured by itself, beside those of the last healthy step, by the same weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from bloomery.data.batch import Batch, Labels
from bloomery.data.source import Source, Span
from bloomery.mesh import Holding, settle
from bloomery.models import Model
from bloomery.objectives import Objective
from bloomery.optim import Optimizer, clip_by_global_norm
from bloomery.train.healing import TO_SIGMA, Cause, Healing
from bloomery.train.passes import Passes

CONTROL_ROWS = 16  # of the healthy step, for each rank that reads rows


@dataclass(frozen=True, eq=False)
class Piece:
    """What a row has of a document, as a batch of that row in which nothing else counts.

    Attributes:
        spans: the document; all of the row's where its places do not tell them apart.
        batch: one row.
        weight: of what counts, at least of the first term of the objective.
    """

    spans: Sequence[Span]
    batch: Batch
    weight: float


@dataclass(frozen=True)
class Suspects:
    """Finds them. All ranks must ask, for the same rows.

    Args:
        model: that is asked.
        run: eager passes over single rows.
        source: of the rows.
        objective: the loss.
        holding: the model's parameters.
        optimizer: whose gradients are measured.
        healing: what is far out.
    """

    model: Model
    run: Passes
    source: Source
    objective: Objective
    holding: Holding
    optimizer: Optimizer
    healing: Healing

    def among(self, rows: tuple[int, int], control: tuple[int, int] | None, cause: Cause) -> list[Mapping[str, Any]]:
        """The documents of a batch that stand out, as plain data: id, source, row, place, start, stop, and their loss or gradient.

        By their loss first, which takes one forward pass of a row for each, done by the rank that reads the row. If none stands out, and
        gradients do not look right, by their gradients, which takes all ranks a pass for each piece of the whole batch. Let x be the loss per
        unit of weight, or the gradient of it, and w the weight. A piece stands out if x is not finite, or if

            (x − m)·√w > sigmas · σ  and  x > m + (rise − 1)·|m|

        with m and σ, the robust standard deviation of (x − m)·√w, of the pieces of a healthy step: what few tokens say is less certain. Of
        gradients it is x·√w that is compared, which few tokens do not make larger.
        Weights that are damaged make all losses large, those of the healthy step too; then nothing stands out, and rightly so.

        Args:
            rows: first row and number of rows of the batch.
            control: those of a healthy step; None where there has not been one, and only what is not finite stands out.
            cause: why the batch is asked about.
        """
        size = self.holding.mesh.readers.size
        groups = self._pieces(rows)
        healthy = [[] for _ in groups] if control is None else self._pieces((control[0], min(control[1], CONTROL_ROWS * size)))
        pieces, known = _flat(groups), _flat(healthy)
        with torch.no_grad():
            ours, usual = self._losses(groups), self._losses(healthy)
        found = self._out(pieces, ours, [one.weight for one in pieces], usual, [one.weight for one in known], self.healing.loss_rise, "loss")
        if not found and cause in ("not finite", "grad_norm"):
            known = [] if cause == "not finite" else known
            ours, usual = self._gradients(pieces), self._gradients(known)
            found = self._out(pieces, ours, [1.0] * len(pieces), usual, [1.0] * len(known), self.healing.gradient_rise, "gradient")
            self.holding.forget_gradients()
        settle(self.model, self.holding.mesh)
        return found

    def _pieces(self, rows: tuple[int, int]) -> list[list[Piece]]:
        """The pieces of the rows of each reader."""
        first, count = rows
        each = count // self.holding.mesh.readers.size
        return [
            [piece for row in range(first + i * each, first + (i + 1) * each) for piece in self._of_row(row)]
            for i in range(self.holding.mesh.readers.size)
        ]

    def _of_row(self, row: int) -> list[Piece]:
        batch, spans = self.source.batch(row, 1), self.source.documents(row, 1)
        segments = batch.layout.segments
        if segments is None or int(segments.max()) != len(spans):
            parts = [(spans, batch)]
        else:
            parts = [([span], _only(batch, number)) for number, span in enumerate(spans, start=1)]
        return [Piece(spans, part, weight) for spans, part in parts if (weight := max(self.objective.weights(part))) > 0]

    def _losses(self, groups: Sequence[Sequence[Piece]]) -> list[float]:
        """Of all pieces, in order; each rank measures those of its own rows."""
        mesh, most = self.holding.mesh, max(map(len, groups))
        own = groups[mesh.readers.index]
        table = torch.zeros(len(groups), most, dtype=torch.float64)
        for i in range(most):  # as many passes on each rank, whatever it has: ranks that share a model make them together
            piece = own[min(i, len(own) - 1)] if own else groups[max(range(len(groups)), key=lambda k: len(groups[k]))][i]
            loss = self.run(piece.batch, self._weights(piece), False).loss()
            if i < len(own):
                table[mesh.readers.index, i] = loss
        table = mesh.world.sum_(table.to(mesh.device)).tolist()
        return [loss for losses, group in zip(table, groups, strict=True) for loss in losses[: len(group)]]

    def _gradients(self, pieces: Sequence[Piece]) -> list[float]:
        """The norm of each piece's gradient per unit of weight, times √w; all readers measure the same piece at a time."""
        mesh, norms = self.holding.mesh, []
        for piece in pieces:
            self.holding.forget_gradients()
            self.run(piece.batch, [weight * mesh.readers.size for weight in self._weights(piece)], True)
            self.holding.add_up()
            spoken = [held.local.grad for held in self.holding.trainable() if held.speaks and held.local.grad is not None]
            norms.append(float(clip_by_global_norm(self.optimizer.gradients, None, spoken, mesh.world)) * piece.weight**0.5)
        return norms

    def _weights(self, piece: Piece) -> list[float]:
        return [weight or 1.0 for weight in self.objective.weights(piece.batch)]

    def _out(
        self, pieces: Sequence[Piece], values: Sequence[float], weights: Sequence[float], usual: Sequence[float],
        usual_weights: Sequence[float], rise: float, what: str,
    ) -> list[Mapping[str, Any]]:  # fmt: skip
        """The pieces whose values stand out among the usual ones."""
        if not all(map(math.isfinite, usual)):  # then it is the weights
            return []
        middle = median(usual) if usual else math.inf
        spread = [abs(value - middle) * weight**0.5 for value, weight in zip(usual, usual_weights, strict=True)]
        far = self.healing.sigmas * TO_SIGMA * median(spread) if usual else math.inf

        def stands_out(value: float, weight: float) -> bool:
            return not math.isfinite(value) or ((value - middle) * weight**0.5 > far and value > middle + (rise - 1) * abs(middle))

        return [
            {**span._asdict(), what: value} for piece, value, weight in zip(pieces, values, weights, strict=True) if stands_out(value, weight)
            for span in piece.spans
        ]  # fmt: skip


def _flat(groups: Sequence[Sequence[Piece]]) -> list[Piece]:
    return [piece for group in groups for piece in group]


def _only(batch: Batch, segment: int) -> Batch:
    """The same row, in which only what belongs to one of its documents counts."""
    assert batch.layout.segments is not None
    chosen = batch.layout.segments == segment
    labels = {name: Labels(one.targets, torch.where(chosen, one.loss_weight, 0.0)) for name, one in batch.labels.items()}
    return replace(batch, loss_weight=torch.where(chosen, batch.loss_weight, 0.0), labels=labels)
