"""LAMB: Adam with a rate for each matrix, by its size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import sqrt
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from bloomery.optim.blocks import Shapes
from bloomery.optim.graded import Graded, Stepper
from bloomery.optim.groups import Member, Role


class Lamb(Graded):
    """LAMB, for Adam in large batches: a step moves each matrix by η of its size.

        m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  u = m̂ / (√v̂ + ε) + λθ;  θ ← θ − η·(‖θ‖ / ‖u‖)·u

    Matrices inside a fused one (queries, keys and values; experts) have a rate each, so that fusing changes nothing. Under µP η of hidden
    matrices is multiplied by √(base width / width), as their size falls with √width already.

    Source: You et al. (2019), arXiv 1904.00962, algorithm 2, with φ(z) = z. Departures: vectors are not scaled and do not decay, and a matrix
    of zeros is not scaled.
    """

    learning_rate: Annotated[float, Gt(0)] = 1e-2
    """Full rate η of matrices and vectors; the schedule's factor multiplies it."""
    weight_decay: Annotated[float, Ge(0)] = 0.01
    """λ of matrices and of the head."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999)
    """β₁ and β₂."""
    eps: Annotated[float, Gt(0)] = 1e-6
    """ε, added to √v̂."""

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        return _Lamb(self.groups(everything, roles), Shapes(everything), self)

    def pace(self, member: Member) -> float:
        return sqrt(member.rate)

    def decay(self, decay: float, pace: float) -> float:
        return decay


class _Lamb(Stepper):
    def __init__(self, groups: list[dict[str, Any]], shapes: Shapes, config: Lamb) -> None:
        super().__init__(groups)
        self.shapes, self.config = shapes, config

    def update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        first, second = self.config.betas
        means, squares, steps = self.slots("mean", parameters), self.slots("square", parameters), self.count(parameters)
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        updates = torch._foreach_div(squares, [(1 - second**step).float() for step in steps])
        torch._foreach_sqrt_(updates)
        torch._foreach_add_(updates, self.config.eps)
        torch._foreach_mul_(updates, [(1 - first**step).float() for step in steps])
        updates = torch._foreach_div(means, updates)
        torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        if group["role"] is not Role.VECTOR:
            sizes, lengths = self.shapes.norms(parameters, parameters, updates)
            for parameter, update, size, length in zip(parameters, updates, sizes, lengths, strict=True):
                self.shapes.blocks[parameter].scale(update, (size / length).where((size > 0) & (length > 0), 1.0))
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])
