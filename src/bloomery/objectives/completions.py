"""What losses of completions have in common: the documents of a row, and what each of them is worth to a policy or to a head."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch, Labels
from bloomery.data.tasks import WORTH
from bloomery.models import ModelConfig, RegressionConfig
from bloomery.models.ensemble import heads_by_name
from bloomery.models.heads import first_places
from bloomery.nn.cross_entropy import exactly
from bloomery.objectives.objective import Reading

OfDocuments = Float[Tensor, "batch documents"]
Length = Literal["sum", "mean"]
"""What a text is worth of its tokens' log-probabilities: their sum, or their mean."""


def numbers_of(batch: Batch) -> Int[Tensor, "batch time"]:
    """Of the document that a place is in, from 1; 0 for padding before any."""
    return first_places(batch.layout).cumsum(1)


def of_documents(values: Float[Tensor, "batch time"], batch: Batch) -> OfDocuments:
    """The sums over the documents of each row, in their order; 0 for those that a row has room for and not."""
    rows, time = values.shape
    return values.new_zeros(rows, time + 1).scatter_add(1, numbers_of(batch), values)[:, 1 : 1 + time // 2 * 2]


def documents_in(batch: Batch) -> Bool[Tensor, "batch documents"]:
    """Which of the documents that a row has room for are there."""
    count = first_places(batch.layout).sum(1, keepdim=True)
    return torch.arange(batch.tokens.shape[1] // 2 * 2, device=count.device) < count


def told_worth(reading: Reading, length: Length = "sum") -> OfDocuments:
    """log π of what each document says: its sum over tokens, or its mean."""
    found = of_documents(reading.told().logprobs, reading.batch)
    if length == "sum":
        return found
    return found / of_documents((reading.batch.loss_weight > 0).to(found.dtype), reading.batch).clamp(min=1)


def scored(scores: Float[Tensor, "batch time 1"], batch: Batch) -> OfDocuments:
    """What a head that gives a number says of each document."""
    return of_documents(exactly(scores[..., 0]) * first_places(batch.layout), batch)


def labelled(batch: Batch) -> tuple[OfDocuments, Bool[Tensor, "batch documents"]]:
    """What each document is labelled with, and whether it is."""
    nothing = torch.zeros_like(batch.loss_weight)
    told = batch.labels.get(WORTH, Labels(nothing, nothing))
    count = of_documents(told.loss_weight, batch)
    return of_documents(told.targets.to(count.dtype) * told.loss_weight, batch) / count.clamp(min=1), count > 0


def check_number_head(who: str, head: str, model: ModelConfig) -> None:
    """Raises `ConfigError` where a model has no head of that name that gives a number for a document.

    Args:
        who: asks it, for the message.
        head: its name.
        model: that is trained.
    """
    if not isinstance(heads_by_name(model).get(head), RegressionConfig):
        raise ConfigError(f"{who}.head={head!r} is no head of its {model.kind()} that gives a number; take "
                          f"HeadsOn(heads=(RegressionConfig(name={head!r}, pooling=LastPoolingConfig()),))")  # fmt: skip
