"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from bloomery.optim.graded import Graded
from bloomery.optim.groups import Member, Role


class AdamW(Graded):
    """AdamW, in torch's fused form.

        m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  θ ← θ − η·λ·θ − η·m̂ / (√v̂ + ε)

    Source: Loshchilov and Hutter (2019), arXiv 1711.05101, algorithm 2, as in torch: the decay is multiplied by the rate.
    """

    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.95)
    """β₁ and β₂."""
    eps: Annotated[float, Gt(0)] = 1e-8
    """ε, added to √v̂."""

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(everything, roles), betas=self.betas, eps=self.eps, fused=True)
