"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt

from bloomery.optim.graded import Graded
from bloomery.optim.groups import Member, Role


class Sgd(Graded):
    """Gradient descent with momentum, in torch's fused form.

        g ← g + λθ;  m ← μm + g;  θ ← θ − ηm  (heavy ball)  or  θ − η(g + μm)  (Nesterov)

    The decay is coupled: part of the gradient, and so of the momentum. Under µP hidden matrices keep their rate, and that of all else is
    multiplied by width over base width.

    Source: Polyak (1964); Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning", with the rate outside
    of the momentum, as in torch; Yang et al. (2022), arXiv 2203.03466, table 8.
    """

    learning_rate: Annotated[float, Gt(0)] = 0.1
    """Full rate η of matrices and vectors; the schedule's factor multiplies it."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """λ of matrices and of the head."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """μ."""
    form: Literal["heavy_ball", "nesterov"] = "nesterov"
    """Where the gradient is counted."""

    def check(self) -> None:
        if self.form == "nesterov" and not self.momentum:
            raise self.refuse("form", "goes with a momentum above 0; take 'heavy_ball', or momentum=0.9")

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        nesterov = self.form == "nesterov"
        return torch.optim.SGD(self.groups(everything, roles), momentum=self.momentum, nesterov=nesterov, fused=True)

    def pace(self, member: Member) -> float:
        return 1.0 if member.role is Role.MATRIX else 1 / member.narrow
