"""Losses of whole rankings, whose completions stand in one row (`Rankings`, under `Ordered()`), the best one first.

    reward models     PlackettLuce(head="reward")
    direct methods    RankedDPO(reference=…)

A ranking of k is k − 1 choices: the best one of all, the second best of those that are left, … Each choice counts 1; with k = 2 it is a pair.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Bool
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.data.tasks import Ordered, RowTask
from bloomery.models import ModelConfig
from bloomery.objectives.completions import Length, OfDocuments, check_number_head, labelled, scored, told_worth
from bloomery.objectives.frozen import Frozen, check_same_ids
from bloomery.objectives.objective import Objective, Reading, Total


class RankingLoss(Objective):
    """−Σ over choices of log(exp r_i / Σ over those left of exp r_j): what losses of rankings have in common. Subclasses write `worths`, r.

    Metric: `best_first`, the share of choices in which the best of those left is worth the most.

    Source: Plackett (1975), "The Analysis of Permutations"; Luce (1959), "Individual Choice Behavior".
    """

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        if not isinstance(task, Ordered):
            raise ConfigError(f"{self.kind()} compares the completions of rankings, which {task.kind()} does not keep apart; take rows of "
                              "Rankings() and Train.task=Ordered()")  # fmt: skip

    def weight(self, batch: Batch) -> float:
        return float(choices_in(batch)[0].sum())

    def worths(self, reading: Reading) -> OfDocuments:
        """r of each document, differentiable."""
        raise NotImplementedError

    def total(self, reading: Reading) -> Total:
        chooses, left = choices_in(reading.batch)
        worths = self.worths(reading)
        among = worths[:, None, :].masked_fill(~left, torch.finfo(worths.dtype).min)
        losses = torch.logsumexp(among, -1) - worths
        with torch.no_grad():
            best = (worths >= among.amax(-1)).to(worths.dtype)
        return (losses * chooses).sum(), {"best_first": (best * chooses).sum()}


class PlackettLuce(RankingLoss):
    """`RankingLoss` of what a head says of each document: a reward model of whole rankings.

    Source: as a loss of scores: Xia et al. (2008), ListMLE, "Listwise Approach to Learning to Rank".
    """

    looks_inside: ClassVar[bool] = True

    head: str = "reward"
    """The head that says it, a `RegressionConfig`; `LastPoolingConfig()` has it see all of a document."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        super().check_training(model, task)
        check_number_head(self.kind(), self.head, model)

    def worths(self, reading: Reading) -> OfDocuments:
        return scored(reading.scores(self.head), reading.batch)


class RankedDPO(RankingLoss):
    """`RankingLoss` of β·log(π/π_ref) of each document.

    Source: Rafailov et al. (2023), arXiv 2305.18290, appendix A.3.
    """

    reference: Frozen
    """π_ref: what the policy was before."""
    beta: Annotated[float, Gt(0)] = 0.1
    """β: how near the policy is held to the reference."""
    length: Length = "sum"
    """Whether a text is worth the sum of its tokens' log-probabilities, or their mean, so that length is worth nothing."""

    def frozen(self) -> tuple[Frozen, ...]:
        return (self.reference,)

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        super().check_training(model, task)
        check_same_ids(f"{self.kind()}.reference is", self.reference.architecture, model)

    def worths(self, reading: Reading) -> OfDocuments:
        with torch.no_grad():
            before = told_worth(reading.beside(self.reference), self.length)
        return self.beta * (told_worth(reading, self.length) - before)


def choices_in(batch: Batch) -> tuple[Bool[Tensor, "batch documents"], Bool[Tensor, "batch documents documents"]]:
    """The documents that are chosen before another one of their ranking, and of each those among which it is: itself, and the worse ones."""
    place, there = labelled(batch)
    number = ((place == 1) & there).cumsum(1)  # of its ranking
    behind = torch.ones(place.shape[1], place.shape[1], dtype=torch.bool, device=place.device).triu()
    left = (number[:, :, None] == number[:, None, :]) & there[:, None, :] & there[:, :, None] & behind
    chooses = left.sum(-1) > 1
    return chooses, left | torch.eye(place.shape[1], dtype=torch.bool, device=place.device)
