"""LARS: gradient descent with a rate for each matrix, by its size."""

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


class Lars(Graded):
    """LARS, for SGD in large batches: a step moves each matrix by about trust·η of its size.

        ρ = trust·‖θ‖ / (‖g‖ + λ‖θ‖);  m ← μm + η·ρ·(g + λθ);  θ ← θ − m

    Matrices inside a fused one (queries, keys and values; experts) have a rate each, so that fusing changes nothing. Under µP η of hidden
    matrices is multiplied by √(base width / width), as their size falls with √width already; λ, part of the gradient, stays.

    Source: You et al. (2017), arXiv 1708.03888, algorithm 1. Departures: vectors are not scaled (ρ = 1), have a rate of their own and do not
    decay; a matrix of zeros is not scaled.
    """

    learning_rate: Annotated[float, Gt(0)] = 10.0
    """Full rate η of matrices; the schedule's factor multiplies it."""
    vector_rate: Annotated[float, Gt(0)] = 0.01
    """Rate of vectors, relative to `learning_rate`."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """λ of matrices and of the head."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """μ."""
    trust: Annotated[float, Gt(0)] = 1e-3
    """How much of a matrix's size a step at η = 1 may move it by."""

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        return _Lars(self.groups(everything, roles, self.vector_rate), Shapes(everything), self)

    def pace(self, member: Member) -> float:
        return sqrt(member.rate)

    def decay(self, decay: float, pace: float) -> float:
        return decay


class _Lars(Stepper):
    def __init__(self, groups: list[dict[str, Any]], shapes: Shapes, config: Lars) -> None:
        super().__init__(groups)
        self.shapes, self.config = shapes, config

    def update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        decay = group["weight_decay"]
        momenta = self.slots("momentum", parameters)
        updates = torch._foreach_mul(parameters, decay)
        torch._foreach_add_(updates, gradients)
        torch._foreach_mul_(updates, group["lr"])
        if group["role"] is not Role.VECTOR:
            sizes, steps = self.shapes.norms(parameters, parameters, gradients)
            for parameter, update, size, step in zip(parameters, updates, sizes, steps, strict=True):
                ratio = self.config.trust * size / (step + decay * size)
                self.shapes.blocks[parameter].scale(update, ratio.where((size > 0) & (step > 0), 1.0))
        torch._foreach_mul_(momenta, self.config.momentum)
        torch._foreach_add_(momenta, updates)
        torch._foreach_sub_(parameters, momenta)
