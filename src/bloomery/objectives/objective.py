"""The contract of a loss: sums and weights, never means, so that no split of a batch can change the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from bloomery.core.config import Config
from bloomery.data.batch import Batch
from bloomery.data.tasks import RowTask
from bloomery.models import Model, ModelConfig, TaskModel
from bloomery.models.agent import Agent
from bloomery.nn.seen import Seen
from bloomery.objectives.frozen import Frozen, Importance
from bloomery.objectives.told import Told, told_of

Total = tuple[Tensor, dict[str, Tensor]]
"""Σ weight·loss, differentiable, and further sums over the same weight, detached."""
Stiffness = float | Tensor
"""How hard a penalty pulls: at all numbers of a tensor, or at each."""


@dataclass(frozen=True)
class Sum:
    """A term of a loss as the sum over a batch and the weight to divide it by.

    Attributes:
        total: scalar, differentiable: Σ weight·loss, times the term's factor.
        weight: Σ weight, as the term counts it.
        metrics: further sums over the same weight, detached.
    """

    total: Tensor
    weight: float
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Models:
    """The models that an objective may ask.

    Attributes:
        policy: the one that is trained.
        frozen: those that are not, by `Frozen.address`.
    """

    policy: Model
    frozen: Mapping[str, Model] = field(default_factory=dict)

    def of(self, frozen: Frozen) -> Model:
        """The model that a loss names."""
        return self.frozen[frozen.address]


class Reading:
    """What the policy makes of a batch: its forward pass, done once, when the first term asks for something of it.

    Args:
        models: of the training.
        batch: what is read.
        looks_inside: whether inner states are kept, for `seen` and `hidden`.
        features: of the batch, where the pass has been done already.
    """

    def __init__(self, models: Models, batch: Batch, looks_inside: bool = False, features: Tensor | None = None) -> None:
        self.models, self.batch = models, batch
        self._seen = Seen() if looks_inside else None
        self._features = features
        self._scores: Mapping[str, Tensor] | None = None
        self._told: dict[float, Told] = {}
        self._beside: dict[str, Reading] = {}

    def features(self) -> Float[Tensor, "batch time d_features"]:
        """What the vocabulary's head reads."""
        if self._features is None:
            batch = self.batch
            self._features = self.models.policy.features(batch.tokens, batch.layout, seen=self._seen, passage=batch.passage)
        return self._features

    def beside(self, frozen: Frozen) -> Reading:
        """What a frozen model makes of the same batch; its weights take no gradients, so that nothing is kept of its pass but what is asked."""
        if (address := frozen.address) not in self._beside:
            self._beside[address] = Reading(Models(self.models.of(frozen)), self.batch, self._seen is not None)
        return self._beside[address]

    def seen(self) -> Seen:
        """The inner states of the pass; for terms that look inside."""
        self.features()
        assert self._seen is not None, "say looks_inside = True in the objective that asks"
        return self._seen

    def hidden(self) -> Float[Tensor, "batch time d_model"]:
        """The states behind the last norm, which heads of tasks read; for terms that look inside."""
        last = self.seen().last
        assert last is not None, "the model does not tell its last states"
        return last

    def told(self, temperature: float = 1.0) -> Told:
        """What the policy, at a temperature, says of the targets that have weight: 0 elsewhere."""
        if temperature not in self._told:
            self._told[temperature] = told_of(self.models.policy.head, self.features(), self.batch, temperature)
        return self._told[temperature]

    def scores(self, head: str) -> Float[Tensor, "batch time n_labels"]:
        """What a head of a task makes of the states; for terms that look inside."""
        if self._scores is None:
            policy = self.models.policy
            assert isinstance(policy, TaskModel | Agent), "heads are those of a TaskModel or an Agent"
            self._scores = policy.scores_of(self.hidden(), self.batch.layout)
        return self._scores[head]


class Objective(Config):
    """A loss: a value handed to the loop. Subclasses write `total`, and `weight` where they do not count by the loss weights.

    The law that makes accumulation exact: over any split of a batch by rows, totals, weights and metrics add up to those of the whole.

    Objectives add up: `CausalLM() + 0.4 * Other(…)` is an objective of two terms. Each term is divided by a weight of its own, that of all
    rows of the step, and all of them share one forward pass.
    """

    looks_inside: ClassVar[bool] = False
    """Whether it reads inner states of the model (`Reading.seen`, `hidden`, `scores`), which are kept only for those who say so."""

    def total(self, reading: Reading) -> Total:
        """Σ weight·loss over the batch, differentiable, and further sums over the same weight, detached."""
        raise NotImplementedError

    def weight(self, batch: Batch) -> float:
        """Σ weight over the batch: known without a forward pass, so that the step is divided before its first backward."""
        return batch.weight

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        """Raises `ConfigError` where a model or a task does not give what the loss needs; asked when a training's config is built."""

    def frozen(self) -> tuple[Frozen, ...]:
        """The models beside the one that is trained whose passes it reads (`Reading.beside`)."""
        return ()

    def penalties(self) -> tuple[tuple[float, Penalty], ...]:
        """The terms, with their factors, that are on weights and no sums over rows."""
        return ()

    @property
    def needs(self) -> frozenset[str]:
        """The parts of `Samples` that it reads, which only rows have that the policy has written (`Train.rollout`)."""
        return frozenset()

    @property
    def reads_rows(self) -> bool:
        """Whether there is a term that is a sum over rows."""
        return not self.penalties()

    def totals(self, reading: Reading) -> Sequence[Total]:
        """Those of each term; an objective is one term unless it says otherwise."""
        return (self.total(reading),)

    def weights(self, batch: Batch) -> tuple[float, ...]:
        """Those of each term."""
        return (self.weight(batch),)

    def read(self, models: Models, batch: Batch) -> Sequence[Total]:
        """The totals of a batch or of any part of one. This is what gets compiled."""
        return self.totals(Reading(models, batch, self.looks_inside))

    def __call__(self, models: Models, batch: Batch) -> list[Sum]:
        """Each term's summed loss of a batch or of any part of one."""
        totals = self.read(models, batch)
        return [Sum(total, weight, metrics) for (total, metrics), weight in zip(totals, self.weights(batch), strict=True)]

    def __add__(self, other: Objective) -> Combined:
        if not isinstance(other, Objective):
            return NotImplemented
        return Combined(terms=(*terms_of(self), *terms_of(other)))

    def __rmul__(self, factor: float) -> Combined:
        if not isinstance(factor, int | float):
            return NotImplemented
        return Combined(terms=tuple((factor * share, objective) for share, objective in terms_of(self)))


class Combined(Objective):
    """A weighted sum of objectives, each per unit of its own weight: L = Σᵢ factorᵢ·totalᵢ/weightᵢ. Written `CausalLM() + 0.4 * Other()`."""

    terms: tuple[tuple[float, Objective], ...]
    """Factor and objective of each term."""

    def check(self) -> None:
        if not self.terms:
            raise self.refuse("terms", "has no term; give it one or more")

    @property
    def looks_inside(self) -> bool:  # type: ignore[override]
        """Whether any of them does."""
        return any(objective.looks_inside for _, objective in self.terms)

    @property
    def reads_rows(self) -> bool:
        return any(objective.reads_rows for _, objective in self.terms)

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        for _, objective in self.terms:
            objective.check_training(model, task)

    def frozen(self) -> tuple[Frozen, ...]:
        named = {one.address: one for _, objective in self.terms for one in objective.frozen()}
        return tuple(named.values())

    def penalties(self) -> tuple[tuple[float, Penalty], ...]:
        return tuple((factor * share, penalty) for factor, objective in self.terms for share, penalty in objective.penalties())

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(objective.needs for _, objective in self.terms))

    def totals(self, reading: Reading) -> Sequence[Total]:
        parts = [(factor, part) for factor, objective in self.terms for part in objective.totals(reading)]
        return [(factor * total, metrics) for factor, (total, metrics) in parts]

    def weights(self, batch: Batch) -> tuple[float, ...]:
        return tuple(weight for _, objective in self.terms for weight in objective.weights(batch))


class Penalty(Objective):
    """A loss on weights, for what was learnt before; a term beside another loss: `CausalLM() + EWC(fisher=…)`.

        ½ Σᵢ sᵢ·(θᵢ − θ*ᵢ)² over the weights that are trained

    It is no sum over rows. Once all ranks' gradients of a step are added up, each rank adds sᵢ·(θᵢ − θ*ᵢ) to those of the weights that it
    holds, so that it counts once a step, with a weight of 1, whatever the micro-batches, the layout and the ranks, and costs no pass.
    """

    metric: ClassVar[str]
    """What its value is called in the metrics."""

    @property
    def towards(self) -> Frozen:
        """θ*: the model whose weights it pulls towards. Those that it has not, or in another shape, are new."""
        raise NotImplementedError

    @property
    def importance(self) -> Importance | None:
        """What is known of the weights one by one."""
        return None

    @property
    def new_stiffness(self) -> float:
        """s of the weights that the anchor has not; their θ* is 0."""
        return 0.0

    def stiffness(self, importance: Tensor | None) -> Stiffness:
        """s of a tensor of the anchor's, of which this importance is known; None where none is."""
        raise NotImplementedError

    def penalties(self) -> tuple[tuple[float, Penalty], ...]:
        return ((1.0, self),)

    def totals(self, reading: Reading) -> Sequence[Total]:
        return ()

    def weights(self, batch: Batch) -> tuple[float, ...]:
        return ()


def real_tokens(batch: Batch) -> Tensor:
    """(batch, time), True where a token is no padding."""
    return batch.tokens >= 0 if batch.layout.segments is None else batch.layout.segments > 0


def terms_of(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    """The terms of a loss with their factors."""
    return objective.terms if isinstance(objective, Combined) else ((1.0, objective),)
