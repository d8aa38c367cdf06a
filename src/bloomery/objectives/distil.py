"""Distillation: learning what another model says, at each place of a text. Terms beside another loss:

    0.5 * CausalLM() + 0.5 * Distil(teacher=large, temperature=2.0)
    CausalLM() + 0.1 * Distil(teacher=base, divergence=ReverseKL())           what a model was before holds it there
    0.7 * Distil(teacher=one) + 0.3 * Distil(teacher=another)                 several teachers

`distil_inside` has those that look at inner states.
"""

from __future__ import annotations

from abc import abstractmethod
from math import log
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Lt
from jaxtyping import Float
from torch import Tensor

from bloomery.core.config import Config
from bloomery.data.batch import Batch
from bloomery.data.tasks import RowTask
from bloomery.models import ModelConfig
from bloomery.nn.chunked import chunked_sum
from bloomery.nn.cross_entropy import exactly
from bloomery.objectives.frozen import Frozen, check_same_ids
from bloomery.objectives.objective import Objective, Reading, Total, real_tokens

LogProbs = Float[Tensor, "n vocab"]
Places = Literal["learnt", "all"]
"""Those that have weight in the loss, or all that are no padding, which all weigh the same."""


class Divergence(Config):
    """How far a student's distribution is from its teacher's."""

    @abstractmethod
    def of(self, student: LogProbs, teacher: LogProbs) -> Float[Tensor, " n"]:
        """At each place, from log-probabilities."""


class ForwardKL(Divergence):
    """KL(teacher ‖ student) = Σ p_T·(log p_T − log p_S): the student covers all that the teacher may say."""

    def of(self, student: LogProbs, teacher: LogProbs) -> Float[Tensor, " n"]:
        return _kl(teacher, student)


class ReverseKL(Divergence):
    """KL(student ‖ teacher): the student keeps to what the teacher would say, if not to all of it.

    Source: Gu et al. (2023), MiniLLM, arXiv 2306.08543.
    """

    def of(self, student: LogProbs, teacher: LogProbs) -> Float[Tensor, " n"]:
        return _kl(student, teacher)


class JensenShannon(Divergence):
    """β·KL(teacher ‖ m) + (1 − β)·KL(student ‖ m),  m = β·teacher + (1 − β)·student. Divided by β it comes to the forward KL as β → 0, and
    divided by 1 − β to the reverse KL as β → 1.

    Source: Agarwal et al. (2023), GKD, arXiv 2306.13649, section 3.
    """

    beta: Annotated[float, Gt(0), Lt(1)] = 0.5
    """β."""

    def of(self, student: LogProbs, teacher: LogProbs) -> Float[Tensor, " n"]:
        middle = torch.logaddexp(teacher + log(self.beta), student + log(1 - self.beta))
        return self.beta * _kl(teacher, middle) + (1 - self.beta) * _kl(student, middle)


class FromTeacher(Objective):
    """What losses have in common that compare a model with another one at the places of a text."""

    teacher: Frozen
    """Who is asked: a stage that leaves a model, or a `Hub(path=…)`. It must read the same ids."""

    def frozen(self) -> tuple[Frozen, ...]:
        return (self.teacher,)

    def weight(self, batch: Batch) -> float:
        return float(real_tokens(batch).sum())


class Distil(FromTeacher):
    """Σ w · T² · D(student, teacher), both softened by a temperature: p ∝ exp(logits / T). T² keeps gradients at their size as T grows.

    No logits are held but those of a chunk of places. The metric `distilled` is D without T².

    With what the model was before as teacher, this is learning without forgetting. Several teachers are several terms: under `ForwardKL`
    their gradients are those of one teacher with the mean of their distributions.

    Source: Hinton et al. (2015), arXiv 1503.02531, section 2; of an earlier self: Li and Hoiem (2016), LwF, arXiv 1606.09282.
    """

    divergence: Divergence = ForwardKL()
    """`ForwardKL()`, `ReverseKL()` or `JensenShannon(beta=…)`."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """T."""
    places: Places = "learnt"
    """Where they are compared: where the loss of tokens counts, by its weights, or at all tokens."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        check_same_ids("Distil.teacher is", self.teacher.architecture, model)

    def weight(self, batch: Batch) -> float:
        return batch.weight if self.places == "learnt" else super().weight(batch)

    def total(self, reading: Reading) -> Total:
        batch, other = reading.batch, reading.beside(self.teacher)
        weights = batch.loss_weight if self.places == "learnt" else real_tokens(batch).to(batch.loss_weight.dtype)
        kept = (weights > 0).flatten()
        w, ours, theirs = weights.flatten()[kept], reading.features().flatten(0, 1)[kept], other.features().flatten(0, 1)[kept]
        student, teacher = reading.models.policy.head, other.models.policy.head

        def loss(features: Tensor, part: slice) -> Tensor:
            with torch.no_grad():
                told = self._softened(teacher(theirs[part]))
            apart = self.divergence.of(self._softened(student(features)), told)
            return torch.dot(w[part].to(apart), apart)

        width = 2 * reading.models.policy.config.vocab_size  # of both models' logits
        total = chunked_sum(loss, ours, list(student.parameters()), width)
        return self.temperature**2 * total, {"distilled": total.detach()}

    def _softened(self, logits: Tensor) -> LogProbs:
        return torch.log_softmax(exactly(logits) / self.temperature, -1)


def _kl(p: LogProbs, q: LogProbs) -> Float[Tensor, " n"]:
    """Σ exp(p)·(p − q) of log-probabilities."""
    return (p.exp() * (p - q)).sum(-1)
