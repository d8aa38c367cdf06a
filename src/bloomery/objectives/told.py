"""What a model says of the targets of a batch, differentiable: log-probabilities, and entropies beside them, without all logits at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bloomery.data.batch import Batch
from bloomery.nn.cross_entropy import exactly, places_per_chunk
from bloomery.nn.head import OutputHead


class Told(NamedTuple):
    """Of each place of a batch, 0 where its target has no weight.

    Attributes:
        logprobs: log π of the target, in nats.
        entropies: −Σ π·log π over all that could stand there.
    """

    logprobs: Float[Tensor, "batch time"]
    entropies: Float[Tensor, "batch time"]


def told_of(head: OutputHead, features: Float[Tensor, "batch time d_features"], batch: Batch, temperature: float) -> Told:
    """π = softmax(logits / temperature) at the targets that have weight.

    Losses that are no sums over places, as those of whole sequences, need log-probabilities before they are losses: so logits are formed
    chunk by chunk, and once more when gradients are.

    Args:
        head: from features to logits.
        features: of the batch.
        batch: with targets, and weights above 0 where they are wanted; where it says that only some ids could be drawn, π is of those.
        temperature: divides the logits.
    """
    wanted = batch.loss_weight > 0
    some, targets = features[wanted], batch.targets[wanted]
    ids = None if batch.samples is None else batch.samples.ids

    def of(features: Tensor, targets: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        logprobs = torch.log_softmax(exactly(head(features)[:, :ids]) / temperature, -1)
        return logprobs.gather(-1, targets[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(-1)

    chunk = places_per_chunk(2 * head_width(head, some), some.device) if len(some) else 1
    if len(some) <= chunk:
        found = [of(some, targets)]
    else:
        parts = [slice(start, start + chunk) for start in range(0, len(some), chunk)]
        found = [checkpoint(of, some[part], targets[part], use_reentrant=False) for part in parts]
    return Told(*(_placed(torch.cat(one), wanted) for one in zip(*found, strict=True)))


@torch.no_grad()
def head_width(head: OutputHead, features: Tensor) -> int:
    """How many logits a place has."""
    return head(features[:1]).shape[-1]


def _placed(values: Float[Tensor, " n"], wanted: Tensor) -> Float[Tensor, "batch time"]:
    return torch.zeros(wanted.shape, dtype=values.dtype, device=values.device).masked_scatter(wanted, values)
