"""Adam, with decay as a penalty on the loss."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from bloomery.optim.graded import Graded
from bloomery.optim.groups import Member, Role


class Adam(Graded):
    """Adam, in torch's fused form.

        g ← g + λθ;  m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  θ ← θ − η·m̂ / (√v̂ + ε)

    λ is that of a penalty ½λ‖θ‖² on the loss, and stays as it is whatever the width (µP).

    Source: Kingma and Ba (2015), arXiv 1412.6980, algorithm 1.
    """

    weight_decay: Annotated[float, Ge(0)] = 0.0
    """λ of matrices and of the head."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.95)
    """β₁ and β₂."""
    eps: Annotated[float, Gt(0)] = 1e-8
    """ε, added to √v̂."""

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.groups(everything, roles), betas=self.betas, eps=self.eps, fused=True)

    def decay(self, decay: float, pace: float) -> float:
        return decay
