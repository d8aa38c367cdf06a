"""`KTO`: learning from completions of which it is only said whether they are good (`Verdicts`, under `Unpaired()`)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.data.tasks import RowTask, Unpaired
from bloomery.models import ModelConfig
from bloomery.objectives.completions import Length, OfDocuments, documents_in, labelled, told_worth
from bloomery.objectives.frozen import Frozen, check_same_ids
from bloomery.objectives.objective import Objective, Reading, Total


class KTO(Objective):
    """λ·(1 − σ(±β·(r − z₀))),  r = log(π/π_ref) of a completion; + and λ_good for good ones, − and λ_bad for others

    z₀ ≥ 0 is what a completion that has nothing to do with its prompt has gained, so that no completion is good for being likelier than it was
    alone: the mean of r over the row's prompts with completions of others, no gradient going through it. Each completion counts 1.

    Metrics: `right`, the share of verdicts that r − z₀ agrees with; `z0`.

    Source: Ethayarajh et al. (2024), arXiv 2402.01306, equations 7 and 8. Departure: the batch that z₀ is estimated from is the row, so that no
    split of a step changes it: take rows of several times as many tokens as a completion has.
    """

    reference: Frozen
    """π_ref: what the policy was before."""
    beta: Annotated[float, Gt(0)] = 0.1
    """β: how near the policy is held to the reference."""
    good: Annotated[float, Ge(0)] = 1.0
    """λ_good; where good ones are rare, so much more that λ_good · their number is about λ_bad · that of others."""
    bad: Annotated[float, Ge(0)] = 1.0
    """λ_bad."""
    length: Length = "sum"
    """Whether a text is worth the sum of its tokens' log-probabilities, or their mean, so that length is worth nothing."""

    def frozen(self) -> tuple[Frozen, ...]:
        return (self.reference,)

    def check(self) -> None:
        if not self.good and not self.bad:
            raise self.refuse("good", "and bad are 0, so that there is nothing to learn; give one a weight")

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        if not isinstance(task, Unpaired):
            raise ConfigError(f"{self.kind()} learns from verdicts, which {task.kind()} does not give; take rows of Verdicts() and "
                              "Train.task=Unpaired()")  # fmt: skip
        check_same_ids(f"{self.kind()}.reference is", self.reference.architecture, model)

    def weight(self, batch: Batch) -> float:
        return float(labelled(batch)[1].sum())

    def total(self, reading: Reading) -> Total:
        verdict, there = labelled(reading.batch)
        with torch.no_grad():
            before = told_worth(reading.beside(self.reference), self.length)
        gained = told_worth(reading, self.length) - before
        unrelated = documents_in(reading.batch) & ~there
        z0 = self.mean(gained.detach(), unrelated).clamp(min=0)
        side = 2 * verdict - 1
        losses = torch.where(verdict > 0.5, self.good, self.bad) * (1 - F.sigmoid(self.beta * side * (gained - z0)))
        right = 0.5 * (1 + (side * (gained.detach() - z0)).sign())
        return (losses * there).sum(), {"right": (right * there).sum(), "z0": (z0 * there).sum()}

    @staticmethod
    def mean(values: OfDocuments, where: torch.Tensor) -> torch.Tensor:
        """(batch, 1), over some of the documents of each row; 0 of none."""
        return (values * where).sum(1, keepdim=True) / where.sum(1, keepdim=True).clamp(min=1)
