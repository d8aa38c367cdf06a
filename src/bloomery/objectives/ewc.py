"""Elastic weight consolidation: what mattered to the old task moves least."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Gt
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.objectives.frozen import Frozen, Importance
from bloomery.objectives.objective import Penalty, Stiffness


class EWC(Penalty):
    """Elastic weight consolidation, ½ λ Σᵢ Fᵢ·(θᵢ − θ*ᵢ)²: what mattered to the old task moves least.

    F is per token (or per label) of the old task, as the loss beside it is per token of the new one, so that λ = 1 gives a token of either the
    same say: where the old loss is ½ F·(θ − θ*)², the minimum is that of both losses added up. Smaller λ lets go sooner.

    For several tasks one after the other, let each `Fisher` begin with the one before it: `Fisher(model=second, before=…)`.

    Source: Kirkpatrick et al. (2017), arXiv 1612.00796, equation 3; one penalty for all tasks: Huszár (2018), PNAS 115(11).
    """

    metric: ClassVar[str] = "ewc"

    fisher: Importance
    """F, and with it the model that it was measured on."""
    anchor: Frozen = Field(default_factory=lambda known: known["fisher"].measured_on)
    """θ*: that model."""
    strength: Annotated[float, Gt(0)] = 1.0
    """λ."""

    def check(self) -> None:
        if self.anchor != self.fisher.measured_on:
            raise ConfigError(f"EWC.fisher was measured on {self.fisher.measured_on.address}, and EWC.anchor is {self.anchor.address}; leave "
                              "the anchor out, or measure the Fisher information of it")  # fmt: skip

    @property
    def towards(self) -> Frozen:
        return self.anchor

    @property
    def importance(self) -> Importance:
        return self.fisher

    def stiffness(self, importance: Tensor | None) -> Stiffness:
        return 0.0 if importance is None else self.strength * importance
