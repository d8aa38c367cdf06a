"""The contract of a loss: sums and weights, never means, so that no split of a batch can change the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.models import Model


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

    policy: Model
    reference: Model | None = None


class Objective(Config):
    """A loss: a value handed to the loop. Subclasses write `total`, and `weight` where they do not count by the loss weights.

    The law that makes accumulation exact: over any split of a batch, totals and weights add up to those of the whole.

    Objectives add up: `CausalLM() + 0.4 * Other(…)` is an objective, whose terms must count by the same weight.
    """

    def total(self, models: Models, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ weight·loss over the batch, differentiable, and further sums over the same weight, detached. This is what gets compiled."""
        raise NotImplementedError

    def weight(self, batch: Batch) -> float:
        """Σ weight over the batch: known without a forward pass, so that the step is divided once, before its first backward."""
        return batch.weight

    def __call__(self, models: Models, batch: Batch) -> Sum:
        """The summed loss of a batch or of any part of one."""
        total, metrics = self.total(models, batch)
        return Sum(total, self.weight(batch), metrics)

    def __add__(self, other: Objective) -> Combined:
        if not isinstance(other, Objective):
            return NotImplemented
        return Combined(terms=(*_terms(self), *_terms(other)))

    def __rmul__(self, factor: float) -> Combined:
        if not isinstance(factor, int | float):
            return NotImplemented
        return Combined(terms=tuple((factor * share, objective) for share, objective in _terms(self)))


class Combined(Objective):
    """A weighted sum of objectives: L = Σᵢ factorᵢ·Lᵢ. Written `CausalLM() + 0.4 * Other()`."""

    terms: tuple[tuple[float, Objective], ...]
    """Factor and objective of each term."""

    def check(self) -> None:
        if not self.terms:
            raise self.refuse("terms", "has no term; give it one or more")

    def total(self, models: Models, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        parts = [(factor, *objective.total(models, batch)) for factor, objective in self.terms]
        metrics = {name: value for _, _, more in reversed(parts) for name, value in more.items()}
        return sum(factor * total for factor, total, _ in parts), metrics  # type: ignore[return-value]

    def weight(self, batch: Batch) -> float:
        weights = [objective.weight(batch) for _, objective in self.terms]
        if any(weight != weights[0] for weight in weights):
            raise ConfigError(f"Combined.terms count this batch differently ({', '.join(map(str, weights))}); only terms of one weight add up")
        return weights[0]


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, Combined) else ((1.0, objective),)
