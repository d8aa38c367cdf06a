"""Lion: the sign of a momentum."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from bloomery.optim.graded import Graded, Stepper
from bloomery.optim.groups import Member, Role


class Lion(Graded):
    """Lion: one slot of state per parameter, and updates that are all of one size.

        u = sign(β₁m + (1 − β₁)g);  θ ← θ·(1 − ηλ) − ηu;  m ← β₂m + (1 − β₂)g

    Rates are about a tenth of AdamW's, and λ ten times as much.

    Source: Chen et al. (2023), arXiv 2302.06675, program 1.
    """

    learning_rate: Annotated[float, Gt(0)] = 3e-4
    """Full rate η of matrices and vectors; the schedule's factor multiplies it."""
    weight_decay: Annotated[float, Ge(0)] = 1.0
    """λ of matrices and of the head."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.99)
    """β₁, of the update, and β₂, of the momentum."""

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        return _Lion(self.groups(everything, roles), self.betas)


class _Lion(Stepper):
    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups)
        self.betas = betas

    def update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        fast, slow = self.betas
        momenta = self.slots("momentum", parameters)
        updates = torch._foreach_lerp(momenta, gradients, 1 - fast)
        torch._foreach_sign_(updates)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])
        torch._foreach_lerp_(momenta, gradients, 1 - slow)
