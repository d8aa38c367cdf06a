"""`Batch`: the rows of one optimiser step, or of a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.nn.layout import SequenceLayout


@dataclass(frozen=True, eq=False)
class Batch:
    """Tokens, what they should predict, and how much each prediction counts.

    Attributes:
        tokens: (batch, time) int64.
        targets: (batch, time) int64, the token to be predicted at each place; where nothing is, any valid id under a weight of 0.
        loss_weight: (batch, time) float32 ≥ 0; 0 takes a place out of the loss.
        layout: which tokens belong together.
        first_row: global index of the first row in the source's order; row i of the batch is `first_row + i`.
    """

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    loss_weight: Float[Tensor, "batch time"]
    layout: SequenceLayout
    first_row: int = 0

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def weight(self) -> float:
        """The sum of the loss weights: what the summed loss is divided by, known before the first backward pass."""
        return float(self.loss_weight.sum(dtype=torch.float64))

    def split(self, rows: int) -> Iterator[Batch]:
        """Micro-batches of at most `rows` rows; views, not copies."""
        for i in range(0, len(self), rows):
            part = slice(i, i + rows)
            yield Batch(self.tokens[part], self.targets[part], self.loss_weight[part], self.layout[part], self.first_row + i)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        move = {"device": device, "non_blocking": True}
        return Batch(self.tokens.to(**move), self.targets.to(**move), self.loss_weight.to(**move), self.layout.to(device), self.first_row)
