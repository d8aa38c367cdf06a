"""`SequenceLayout`: which tokens of a batch belong together, at which positions; every mixer builds its mask from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

PADDING = 0  # the segment number of padding; documents count from 1 within their row


@dataclass(frozen=True, eq=False)
class SequenceLayout:
    """Segments, positions and causality of a batch of rows.

    A token sees those of its own segment only (and, if `causal`, only those before it and itself), so that documents packed into one row
    never see each other.

    Attributes:
        positions: (batch, time), the place of each token within its own document, from 0.
        segments: (batch, time), the number of the document in its row from 1, and 0 for padding; None when each row is one whole document.
        causal: whether a token sees only what comes before.
    """

    positions: Int[Tensor, "batch time"]
    segments: Int[Tensor, "batch time"] | None = None
    causal: bool = True

    @classmethod
    def rows(cls, batch: int, time: int, device: torch.device | str = "cpu") -> SequenceLayout:
        """Each row is one document that fills it."""
        return cls(torch.arange(time, device=device).expand(batch, time))

    @classmethod
    def packed(cls, segments: Int[Tensor, "batch time"]) -> SequenceLayout:
        """Rows with several documents; positions restart with each segment. Segments must be contiguous within a row."""
        time = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
        new = torch.ones_like(segments, dtype=torch.bool)
        new[:, 1:] = segments[:, 1:] != segments[:, :-1]
        start = torch.where(new, time, torch.zeros_like(time)).cummax(dim=1).values
        return cls(time - start, segments)

    @property
    def mask(self) -> Bool[Tensor, "batch 1 time time"] | None:
        """True where the row's token (dim 2) sees the column's (dim 3); None where plain causality says it all.

        Padding sees padding (its own segment), so that no row of the mask is empty; its outputs carry no loss. Made anew for each layer:
        that costs little beside attention, and torch.compile, which makes it once, cannot trace a cached property.
        """
        if self.segments is None:
            return None
        same = self.segments[:, None, :, None] == self.segments[:, None, None, :]  # (batch, 1, time, time)
        return same.tril() if self.causal else same

    @cached_property
    def past(self) -> int:
        """How many slots of a position-addressed cache these tokens reach: the highest position + 1."""
        return int(self.positions.max()) + 1

    @cached_property
    def past_mask(self) -> Bool[Tensor, "batch 1 time past"] | None:
        """True where a token (dim 2) sees a slot (dim 3) of a position-addressed cache; None where every token sees them all."""
        if int(self.positions.min()) + 1 == self.past:
            return None
        return (torch.arange(self.past, device=self.positions.device) <= self.positions[:, :, None])[:, None]  # (batch, 1, time, past)

    def __getitem__(self, rows: slice) -> SequenceLayout:
        """The layout of some of the rows."""
        return SequenceLayout(self.positions[rows], None if self.segments is None else self.segments[rows], self.causal)

    def to(self, device: torch.device | str) -> SequenceLayout:
        """The same layout on another device."""
        segments = None if self.segments is None else self.segments.to(device, non_blocking=True)
        return SequenceLayout(self.positions.to(device, non_blocking=True), segments, self.causal)
