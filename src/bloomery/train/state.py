"""`TrainState`: everything that a step changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bloomery.mesh import ALONE, Holding
from bloomery.models import Model
from bloomery.optim import Average, Optimizer


@dataclass(eq=False)
class TrainState:
    """What a checkpoint holds and a step changes.

    The place in the data is not among it: rows of step k are `k · rows` and on, so that it cannot come apart from the step.

    Attributes:
        model: the model that is trained.
        optimizer: over its parameters.
        average: the moving average of its weights, if one is kept.
        step: optimiser steps done.
        ledger: what is to be remembered of the run besides, as plain data by name: losses that spiked, say.
        holding: the model's parameters as this rank holds them; unless given, all of them, as the only rank.
    """

    model: Model
    optimizer: Optimizer
    average: Average | None = None
    step: int = 0
    ledger: dict[str, Any] = field(default_factory=dict, kw_only=True)
    holding: Holding = field(default=None, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.holding is None:
            self.holding = Holding.alone(self.model, ALONE)

    @property
    def spoken(self) -> list[Tensor]:
        """The gradients that this rank counts in the norm of all."""
        return [held.local.grad for held in self.holding.trainable() if held.speaks and held.local.grad is not None]
