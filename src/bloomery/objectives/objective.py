"""The contract of a loss: sums and weights, never means, so that no split of a batch can change the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from bloomery.data.batch import Batch


@dataclass(frozen=True)
class Sum:
    """A loss as the sum over a batch and the weight to divide it by.

    Attributes:
        total: scalar, differentiable: Σ weight·loss.
        weight: Σ weight, as the objective counts it.
        metrics: further sums over the same weight, detached.
    """

    total: Tensor
    weight: float
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Models:
    """The models that an objective may ask. Only `policy` is trained."""

    policy: nn.Module
    reference: nn.Module | None = None


class Objective(Protocol):
    """A loss: a value handed to the loop."""

    def __call__(self, models: Models, batch: Batch) -> Sum:
        """The summed loss of a batch or of any part of one."""
        ...
