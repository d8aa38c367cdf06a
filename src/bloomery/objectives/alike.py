"""Losses of vectors of texts: alike ones are to come near each other, others are not.

What a text is compared with stands in its own row, never in another one: a row is a pure function of its number, while what else is in a
micro-batch, or on a rank, is not, so that negatives from there would let the layout of a run change its result. Rows may be longer than a
model can read, as no document is: how many pairs are compared with each other is `max_seq_len` of the training.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch, Labels
from bloomery.data.tasks import RowTask, TellLabels
from bloomery.models import ModelConfig, SimilarityConfig
from bloomery.models.heads import TaskHeadConfig, first_places
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives.heads import HeadLoss
from bloomery.objectives.objective import real_tokens

BASE = 0x9E3779B97F4A7C15 - (1 << 64)  # odd, and otherwise arbitrary: see `codes`


class VectorLoss(HeadLoss):
    """What losses of vectors have in common: they are of heads that make one of each document. A product of two vectors is their cosine where
    the head gives them length 1."""

    fitting: ClassVar[tuple[type[TaskHeadConfig], ...]] = (SimilarityConfig,)
    tells: ClassVar[Literal["numbers", "matches"]]
    """What the labels must be."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        super().check_training(model, task)
        if not isinstance(task, TellLabels) or self.head not in getattr(task, self.tells):
            rows = "Likeness" if self.tells == "numbers" else "Matches"
            raise ConfigError(f"{self.kind()}.head={self.head!r} is not among the {self.tells} of {task.kind()}; take rows of {rows}() and "
                              f"TellLabels({self.tells}=({self.head!r},))")  # fmt: skip

    @abstractmethod
    def losses(self, scores: Float[Tensor, "batch time d_model"], labels: Labels, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Those of vectors; see `HeadLoss.losses`."""


class CosineSquaredError(VectorLoss):
    """Σ w·(u·v − label)²: how alike two texts are, as a number that their vectors are to come to.

    Metric: `<head>/squared_error`.

    Source: Reimers and Gurevych (2019), arXiv 1908.10084, section 3, "regression objective function".
    """

    tells: ClassVar[Literal["numbers", "matches"]] = "numbers"

    def losses(self, scores: Float[Tensor, "batch time d_model"], labels: Labels, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = (with_next(scores, batch.layout) - labels.targets.float()).square()
        return losses, {f"{self.head}/squared_error": losses.detach()}


class CoSENT(VectorLoss):
    """Σ over rows of W·log(1 + Σ exp((u_j·v_j − u_i·v_i) / T)), over pairs i, j of texts in a row of which i is the more alike by its label;
    W is the weight of the row's labels. Only the order of the labels counts.

    Metric: `<head>/cosent`.

    Source: Su (2022), "CoSENT", scientific spaces 8847; Huang et al. (2024), doi:10.1109/TASLP.2024.3402087; departure: pairs of a row are
    compared, rather than those of a batch.
    """

    tells: ClassVar[Literal["numbers", "matches"]] = "numbers"

    temperature: Annotated[float, Gt(0)] = 0.05
    """T."""

    def losses(self, scores: Float[Tensor, "batch time d_model"], labels: Labels, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        alike, there = with_next(scores, batch.layout) / self.temperature, labels.loss_weight > 0
        wrong = alike[:, None, :] - alike[:, :, None]  # (batch, i, j)
        ordered = (labels.targets[:, :, None] > labels.targets[:, None, :]) & there[:, :, None] & there[:, None, :]
        terms = wrong.masked_fill(~ordered, torch.finfo(wrong.dtype).min).flatten(1)
        losses = torch.cat([torch.zeros_like(terms[:, :1]), terms], 1).logsumexp(1)[:, None].expand_as(alike)
        return losses, {f"{self.head}/cosent": losses.detach()}


class InfoNCE(VectorLoss):
    """Σ w·(−log softmax(u·v / T)[right]): which of several texts goes with one; also known as multiple negatives ranking.

    The candidates are the texts that are given with those of the row (`Matches`), for each the right one and its negatives; none that reads as
    the right one does is held against it.

    Metrics: `<head>/nll`, and `<head>/right`, the share of texts whose nearest candidate is the right one.

    Source: van den Oord et al. (2018), arXiv 1807.03748, equation 4; negatives that are others' positives: Henderson et al. (2017), arXiv
    1705.00652, section 4.4; given ones beside them: Karpukhin et al. (2020), arXiv 2004.04906, section 3.2. Departures: negatives are of the
    row, rather than of the batch; copies of the right one are left out.
    """

    tells: ClassVar[Literal["numbers", "matches"]] = "matches"

    temperature: Annotated[float, Gt(0)] = 0.05
    """T."""
    among: Literal["row", "own"] = "row"
    """The candidates: all in the row, or those that are given with the text itself."""

    def losses(self, scores: Float[Tensor, "batch time d_model"], labels: Labels, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        layout, told = batch.layout, labels.targets
        first, right = first_places(layout), next_places(layout)
        number = first.cumsum(1)  # of the document that a place is in
        candidates = (first & (told == 0))[:, None, :]  # (batch, anchor, candidate)
        if self.among == "own":
            behind = number[:, None, :] - number[:, :, None]
            candidates = candidates & (behind > 0) & (behind <= told[:, :, None])
        code = codes(batch, number)
        candidates = candidates & (code[:, None, :] != code.gather(1, right)[:, :, None])
        candidates = candidates.scatter(2, right[:, :, None], value=True)
        near = (scores @ scores.mT) / self.temperature
        near = near.masked_fill(~candidates, torch.finfo(near.dtype).min)  # not −∞, whose product with a weight of 0 is no number
        of_right = near.gather(2, right[:, :, None])[:, :, 0]
        losses = near.logsumexp(-1) - of_right
        best = (near.detach().amax(-1) <= of_right.detach()).float()
        return losses, {f"{self.head}/nll": losses.detach(), f"{self.head}/right": best}


def with_next(vectors: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time"]:
    """At the first place of each document, the product of its vector with that of the document behind it in the row."""
    behind = next_places(layout)[:, :, None].expand_as(vectors)
    return (vectors * vectors.gather(1, behind)).sum(-1)


def next_places(layout: SequenceLayout) -> Int[Tensor, "batch time"]:
    """Where the next document begins; for the last document of a row, the row's last place."""
    first = first_places(layout)
    time = first.shape[1]
    places = torch.arange(time, device=first.device).expand_as(first)
    coming = torch.where(first, places, time - 1).flip(1).cummin(1).values.flip(1)  # the next one, this place included
    return torch.cat([coming[:, 1:], coming[:, -1:]], 1)


def codes(batch: Batch, number: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """Σ (token + 1)·BASE^place mod 2⁶⁴ over the document that a place is in: equal for documents of the same tokens, and else hardly ever.

    Args:
        batch: the rows.
        number: of the document that a place is in, from 1; whatever it is for padding.
    """
    rows, time = batch.tokens.shape
    powers = torch.full((time,), BASE, dtype=torch.int64, device=number.device).cumprod(0)
    terms = (batch.tokens + 1) * powers[batch.layout.positions] * real_tokens(batch)
    sums = torch.zeros(rows, time + 1, dtype=torch.int64, device=number.device).scatter_add(1, number, terms)
    return sums.gather(1, number)
