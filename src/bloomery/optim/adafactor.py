"""Adafactor: second moments of matrices as products of those of rows and columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import sqrt
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from bloomery.optim.blocks import Shapes
from bloomery.optim.graded import Graded, Stepper
from bloomery.optim.groups import Member, Role


class Adafactor(Graded):
    """Adafactor: n + m numbers of state for an n·m matrix.

        β = 1 − t^−0.8;  r ← βr + (1 − β)·mean over columns of (g² + ε₁);  c ← βc + (1 − β)·mean over rows of (g² + ε₁)
        u = g / √(r·cᵀ / mean(r));  u ← u / max(1, RMS(u) / d);  θ ← θ·(1 − ηλ) − α·u
        α = max(ε₂, RMS(θ))·min(η, 1/√t)  (relative)  or  η  (absolute)

    Vectors keep their whole second moments. Matrices inside a fused one (queries, keys and values; experts) are factored, clipped and
    scaled one by one, so that fusing changes nothing. Under µP η of hidden matrices is multiplied by base width / width, or where it is
    relative by its square root, as their size falls with √width already.

    Source: Shazeer and Stern (2018), arXiv 1804.04235, algorithms 4 to 6; without momentum, its default. λ is multiplied by η and not by α,
    as in torch.
    """

    learning_rate: Annotated[float, Gt(0)] = 1e-2
    """Full rate η of matrices and vectors; the schedule's factor multiplies it."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """λ of matrices and of the head."""
    step_size: Literal["relative", "absolute"] = "relative"
    """Whether η is relative to the size of what it moves."""
    clip: Annotated[float, Gt(0)] = 1.0
    """d: the largest root mean square of u."""
    eps: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1e-30, 1e-3)
    """ε₁, added to squares of gradients, and ε₂, the least size of a parameter."""
    decay_power: Annotated[float, Gt(0)] = 0.8
    """How fast β goes to 1."""

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        return _Adafactor(self.groups(everything, roles), Shapes(everything), self)

    def pace(self, member: Member) -> float:
        return sqrt(member.rate) if self.step_size == "relative" else member.rate


class _Adafactor(Stepper):
    def __init__(self, groups: list[dict[str, Any]], shapes: Shapes, config: Adafactor) -> None:
        super().__init__(groups)
        self.shapes, self.config = shapes, config

    def update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        blocks, config, vectors = self.shapes.blocks, self.config, group["role"] is Role.VECTOR
        counts = self.count(parameters)
        fresh = [(step**-config.decay_power).float() for step in counts]  # 1 − β
        sizes = [blocks[p].squares(p) for p in parameters]
        sums = [] if vectors else [blocks[p].sums(g.square()) for p, g in zip(parameters, gradients, strict=True)]
        self.shapes.add_up(parameters * (1 if vectors else 3), [*sizes, *(rows for rows, _ in sums), *(columns for _, columns in sums)])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        updates = self._of_vectors(parameters, gradients, fresh) if vectors else self._of_matrices(parameters, gradients, sums, fresh)
        squares = [blocks[p].squares(u) for p, u in zip(parameters, updates, strict=True)]
        self.shapes.add_up(parameters, squares)
        for parameter, update, size, square, step in zip(parameters, updates, sizes, squares, counts, strict=True):
            numbers = blocks[parameter].sizes
            rate = torch.full_like(square, group["lr"])
            if config.step_size == "relative":
                rate = (size / numbers).sqrt().clamp(min=config.eps[1]) * rate.minimum(step.rsqrt().float())
            blocks[parameter].scale(update, rate / ((square / numbers).sqrt() / config.clip).clamp(min=1.0))
        torch._foreach_sub_(parameters, updates)

    def _of_vectors(self, parameters: list[Tensor], gradients: list[Tensor], fresh: list[Tensor]) -> list[Tensor]:
        squares = self.slots("square", parameters)
        for square, gradient, weight in zip(squares, gradients, fresh, strict=True):
            square.lerp_(gradient.square() + self.config.eps[0], weight)
        return [gradient * square.rsqrt() for gradient, square in zip(gradients, squares, strict=True)]

    def _of_matrices(
        self, parameters: list[Tensor], gradients: list[Tensor], sums: list[tuple[Tensor, Tensor]], fresh: list[Tensor]
    ) -> list[Tensor]:
        """Both statistics are of the whole matrices, and kept flat, so that they are taken for nobody's part."""
        all_rows = self.slots("rows", parameters, [rows for rows, _ in sums])
        all_columns = self.slots("columns", parameters, [columns for _, columns in sums])
        updates = []
        for parameter, gradient, (row, column), rows, columns, weight in zip(
            parameters, gradients, sums, all_rows, all_columns, fresh, strict=True
        ):
            blocks, (least, _) = self.shapes.blocks[parameter], self.config.eps
            heights = blocks.sizes / blocks.width
            rows.lerp_(row / blocks.width + least, weight)
            columns.lerp_((column.view(len(heights), -1) / heights[:, None] + least).flatten(), weight)
            by_block = columns.view(len(heights), -1)
            mean = by_block.mean(1)  # that of the rows as well
            of_rows = (rows[blocks.rows] / mean[blocks.block]).rsqrt()
            of_columns = by_block[:, blocks.columns].rsqrt()
            update = gradient.clone(memory_format=torch.contiguous_format)
            for stack in blocks.stacks(update):
                stack.values.mul_(of_rows[stack.rows].view(*stack.values.shape[:2], 1)).mul_(of_columns[stack.blocks, None])
            updates.append(update)
        return updates
