"""`TrainState`: everything that a step changes."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    model: Model
    optimizer: Optimizer
    average: Average | None = None
    step: int = 0
