"""L2-SP: weights are pulled towards where they began."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt
from torch import Tensor

from bloomery.objectives.frozen import Frozen
from bloomery.objectives.objective import Penalty, Stiffness


class L2SP(Penalty):
    """½ α Σ (θ − θ⁰)² over the weights that the model began with, and ½ β Σ θ² over new ones, such as those of a task's head.

    Source: Li et al. (2018), arXiv 1802.01483, equation 3.
    """

    metric: ClassVar[str] = "l2_sp"

    anchor: Frozen
    """θ⁰: what the model began with."""
    strength: Annotated[float, Gt(0)] = 0.1
    """α."""
    new_strength: Annotated[float, Ge(0)] = 0.01
    """β."""

    @property
    def towards(self) -> Frozen:
        return self.anchor

    def stiffness(self, importance: Tensor | None) -> Stiffness:
        return self.strength

    @property
    def new_stiffness(self) -> float:
        return self.new_strength
