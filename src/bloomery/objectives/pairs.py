"""Losses of pairs of which one side is preferred. Both sides stand in one row (`Pairs`, under `Compared()`), so that no split of a batch parts
them; each pair counts 1.

    reward models     BradleyTerry(head="reward")
    direct methods    DPO(reference=…), IPO(reference=…), SimPO(), ORPO()
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.data.tasks import Compared, RowTask
from bloomery.models import ModelConfig
from bloomery.models.heads import first_places
from bloomery.objectives.completions import Length, check_number_head, labelled, of_documents, scored, told_worth
from bloomery.objectives.frozen import Frozen, check_same_ids
from bloomery.objectives.objective import Objective, Reading, Total

OfPairs = Float[Tensor, "batch pairs"]


class PairLoss(Objective):
    """What losses of pairs have in common."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        if not isinstance(task, Compared):
            raise ConfigError(f"{self.kind()} compares the sides of pairs, which {task.kind()} does not keep apart; take rows of Pairs() and "
                              "Train.task=Compared()")  # fmt: skip

    def weight(self, batch: Batch) -> float:
        return float(pairs_in(batch).sum())


class BradleyTerry(PairLoss):
    """Σ over pairs of −log σ(r_better − r_worse − m) + c·(r_better + r_worse)², r being what a head says of a document.

    A reward is known up to a constant only; c holds its mean near 0, which m and −log σ do not.

    Metrics: `<head>/right`, the share of pairs of which the better one has the higher reward, and `<head>/apart`, r_better − r_worse.

    Source: Bradley and Terry (1952); as a loss of rewards: Ouyang et al. (2022), arXiv 2203.02155, section 3.5; m: Touvron et al. (2023), arXiv
    2307.09288, section 3.2.2, where it is a step of what people said; c: Eisenstein et al. (2023), arXiv 2312.09244.
    """

    looks_inside: ClassVar[bool] = True

    head: str = "reward"
    """The head that says it, a `RegressionConfig`; `LastPoolingConfig()` has it see all of a document."""
    margin: Annotated[float, Ge(0)] = 0.0
    """m: by how much the better one's is to be the higher at least."""
    margin_per_point: Annotated[float, Ge(0)] = 0.0
    """What is added to m for each point by which the better one is rated higher; of `Pairs(ratings="kept")`, and of others nothing."""
    centring: Annotated[float, Ge(0)] = 0.0
    """c; 0.01 is usual."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        super().check_training(model, task)
        check_number_head(self.kind(), self.head, model)

    def total(self, reading: Reading) -> Total:
        better, worse = apart(scored(reading.scores(self.head), reading.batch))
        there = pairs_in(reading.batch)
        rated = apart(labelled(reading.batch)[0])
        margin = self.margin + self.margin_per_point * (rated[0] - rated[1])
        losses = -F.logsigmoid(better - worse - margin) + self.centring * (better + worse).square()
        figures = {f"{self.head}/right": right(better - worse), f"{self.head}/apart": (better - worse).detach()}
        return (losses * there).sum(), {name: (figure * there).sum() for name, figure in figures.items()}


class DirectLoss(PairLoss):
    """Losses of a policy's own log-probabilities of both sides. Subclasses write `losses`.

    Metrics: `preferred`, the share of pairs of which the policy has come to prefer the better side; `apart`, by how much, in nats; `better`
    and `worse`, how much more likely each side has become than under the reference, or how likely it is where there is none.
    """

    length: Length = "sum"
    """Whether a text is worth the sum of its tokens' log-probabilities, or their mean, so that length is worth nothing."""

    @property
    def looks_back_at(self) -> Frozen | None:
        """π_ref; None for losses without one."""
        return None

    def frozen(self) -> tuple[Frozen, ...]:
        return () if self.looks_back_at is None else (self.looks_back_at,)

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        super().check_training(model, task)
        if self.looks_back_at is not None:
            check_same_ids(f"{self.kind()}.reference is", self.looks_back_at.architecture, model)

    @abstractmethod
    def losses(self, better: OfPairs, worse: OfPairs) -> OfPairs:
        """Of each pair, from log π of its sides, less log π_ref where there is a reference."""

    def total(self, reading: Reading) -> Total:
        there = pairs_in(reading.batch)
        better, worse = apart(told_worth(reading, self.length))
        if (reference := self.looks_back_at) is not None:
            with torch.no_grad():
                before = apart(told_worth(reading.beside(reference), self.length))
            better, worse = better - before[0], worse - before[1]
        # pairs that are not there must not give what is no number
        losses = self.losses(torch.where(there, better, -1.0), torch.where(there, worse, -1.0))
        figures = {"preferred": right(better - worse), "apart": better - worse, "better": better, "worse": worse}
        return (losses * there).sum(), {name: (figure.detach() * there).sum() for name, figure in figures.items()}


class DPO(DirectLoss):
    """−(1 − ε)·log σ(β·h) − ε·log σ(−β·h) − α·log(π/π_ref)(better),  h = log(π/π_ref)(better) − log(π/π_ref)(worse)

    Pairs say what h is, and nothing of the level of its sides: both may become less likely, by more where they are hard to tell apart. α holds
    the better one up.

    Source: Rafailov et al. (2023), arXiv 2305.18290, equation 7; ε: Mitchell (2023), "A note on DPO with noisy preferences"; α: Pang et al.
    (2024), arXiv 2404.19733, equation 1, who divide by the length of the better side; log π_ref, which they leave out, changes no gradient.
    """

    reference: Frozen
    """π_ref: what the policy was before."""
    beta: Annotated[float, Gt(0)] = 0.1
    """β: how near the policy is held to the reference."""
    label_smoothing: Annotated[float, Ge(0), Lt(0.5)] = 0.0
    """ε: the share of pairs that are held to be the wrong way round."""
    tuning: Annotated[float, Ge(0)] = 0.0
    """α: by how much it is tuned on the better sides as well."""

    @property
    def looks_back_at(self) -> Frozen:
        return self.reference

    def losses(self, better: OfPairs, worse: OfPairs) -> OfPairs:
        h = self.beta * (better - worse)
        return -(1 - self.label_smoothing) * F.logsigmoid(h) - self.label_smoothing * F.logsigmoid(-h) - self.tuning * better


class IPO(DirectLoss):
    """(h − 1/(2β))²,  h as in `DPO`, so that a pair that is told apart well enough pulls no further.

    Source: Azar et al. (2023), arXiv 2310.12036, equation 17; with means over tokens as the usual libraries have it.
    """

    length: Length = "mean"
    """Whether a text is worth the sum of its tokens' log-probabilities, or their mean, so that length is worth nothing."""
    reference: Frozen
    """π_ref: what the policy was before."""
    beta: Annotated[float, Gt(0)] = 0.1
    """β."""

    @property
    def looks_back_at(self) -> Frozen:
        return self.reference

    def losses(self, better: OfPairs, worse: OfPairs) -> OfPairs:
        return (better - worse - 1 / (2 * self.beta)).square()


class SimPO(DirectLoss):
    """−log σ(β·(log π(better) − log π(worse)) − γ), of means over tokens, without a reference.

    Source: Meng, Xia and Chen (2024), arXiv 2405.14734, equation 6.
    """

    length: Length = "mean"
    """Whether a text is worth the sum of its tokens' log-probabilities, or their mean, so that length is worth nothing."""
    beta: Annotated[float, Gt(0)] = 2.0
    """β."""
    margin: Annotated[float, Ge(0)] = 1.0
    """γ."""

    def losses(self, better: OfPairs, worse: OfPairs) -> OfPairs:
        return -F.logsigmoid(self.beta * (better - worse) - self.margin)


class ORPO(DirectLoss):
    """−log π(better) − λ·log σ(log odds(better) − log odds(worse)),  odds = π / (1 − π), of means over tokens: tuning and preferring at once.

    Source: Hong, Lee and Thorne (2024), arXiv 2403.07691, equations 4 to 7. Departure: the first term is a mean over the tokens of each pair,
    not over those of a batch, so that each pair counts 1.
    """

    length: Length = "mean"
    """Whether a text is worth the sum of its tokens' log-probabilities, or their mean, so that length is worth nothing."""
    strength: Annotated[float, Ge(0)] = 0.1
    """λ."""

    def losses(self, better: OfPairs, worse: OfPairs) -> OfPairs:
        odds = (better - worse) - (log_rest(better) - log_rest(worse))
        return -better - self.strength * F.logsigmoid(odds)


def log_rest(logprob: Tensor) -> Tensor:
    """log(1 − p) of log p < 0."""
    return torch.log(-torch.expm1(logprob))


def right(ahead: Tensor) -> Tensor:
    """1 where the better side is ahead, ½ where neither is."""
    return 0.5 * (1 + ahead.detach().sign())


def apart(values: Float[Tensor, "batch documents"]) -> tuple[OfPairs, OfPairs]:
    """Of documents that are pairs, the better ones and the worse ones."""
    return values[:, ::2], values[:, 1::2]


def pairs_in(batch: Batch) -> Bool[Tensor, "batch pairs"]:
    """Which of the pairs that a row has room for are there."""
    count = first_places(batch.layout).sum(1, keepdim=True) // 2
    return torch.arange(batch.tokens.shape[1] // 2, device=count.device) < count


def sides(values: Float[Tensor, "batch time"], batch: Batch) -> tuple[OfPairs, OfPairs]:
    """The sums over the documents of each pair: of the better one, and of the worse one."""
    return apart(of_documents(values, batch))
