"""`SequenceLayout`: which tokens of a batch belong together, at which positions; every mixer builds its mask from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

PADDING = 0  # the segment number of padding; documents count from 1 within their row


@dataclass(frozen=True, eq=False)
class View:
    """Which keys each query sees, and how far they are from it.

    Attributes:
        queries: places of the queries.
        keys: places of the keys; differences of places are differences of positions wherever a query sees a key.
        mask: True where a query (dim 2) sees a key (dim 3); None where it sees all, or all up to itself if `plain_causal`.
        causal: whether a query sees no key behind itself (but for a prefix).
        plain_causal: whether causality says it all, and `mask` is None.
    """

    queries: Int[Tensor, "#batch time"]
    keys: Int[Tensor, "#batch past"]
    mask: Bool[Tensor, "#batch 1 time past"] | None = None
    causal: bool = False
    plain_causal: bool = False

    @property
    def distances(self) -> Int[Tensor, "#batch 1 time past"]:
        """Place of the key minus place of the query: below 0 for what came before."""
        return self.keys[:, None, None, :] - self.queries[:, None, :, None]

    @property
    def seen(self) -> Bool[Tensor, "#batch 1 time past"]:
        """The mask in full, also where `mask` leaves it to be understood."""
        if self.mask is not None:
            return self.mask
        distances = self.distances
        return distances <= 0 if self.plain_causal else torch.ones_like(distances, dtype=torch.bool)

    def within(self, window: int) -> View:
        """The same view, of keys less than `window` places away only."""
        distances = self.distances
        near = distances > -window
        if not self.causal:
            near = near & (distances < window)
        return View(self.queries, self.keys, self.seen & near, self.causal)


@dataclass(frozen=True, eq=False)
class SequenceLayout:
    """Segments, positions and causality of a batch of rows.

    A token sees those of its own segment only (and, if `causal`, only those before it and itself), so that documents packed into one row
    never see each other.

    Attributes:
        positions: (batch, time), the place of each token within its own document, from 0.
        segments: (batch, time), the number of the document in its row from 1, and 0 for padding; None when each row is one whole document.
            Segments are contiguous. With a cache, a row holds one document, and segments say no more than where its padding is.
        causal: whether a token sees only what comes before.
        prefix: (batch, time), True for tokens that all of their segment see, those before them too; of causal layouts only. None for none.
        parts: (batch, time), which part of its document a token is in, from 0 (first or second sentence, say); None where there are no parts.
        whole: where this is of a stretch of rows that ranks share, the layout of the whole rows.
        alike: whether documents that begin alike follow each other, so that models do well to work out once what they share (see `Once`). It
            changes nothing but speed.
    """

    positions: Int[Tensor, "batch time"]
    segments: Int[Tensor, "batch time"] | None = None
    causal: bool = True
    prefix: Bool[Tensor, "batch time"] | None = None
    parts: Int[Tensor, "batch time"] | None = None
    whole: SequenceLayout | None = None
    alike: bool = False

    @property
    def of_row(self) -> SequenceLayout:
        """That of the whole rows, where this is of a stretch of them."""
        return self if self.whole is None else self.whole

    def share(self, index: int, count: int) -> SequenceLayout:
        """That of one of `count` equal stretches of the rows' time; who sees whom is asked of `of_row`."""
        if count == 1:
            return self
        length = self.positions.shape[1] // count
        stretch = slice(index * length, (index + 1) * length)
        segments, prefix, parts = (None if one is None else one[:, stretch] for one in (self.segments, self.prefix, self.parts))
        return SequenceLayout(self.positions[:, stretch], segments, self.causal, prefix, parts, self)

    @classmethod
    def rows(cls, batch: int, time: int, device: torch.device | str = "cpu", causal: bool = True) -> SequenceLayout:
        """Each row is one document that fills it."""
        return cls(torch.arange(time, device=device).expand(batch, time), causal=causal)

    @classmethod
    def packed(cls, segments: Int[Tensor, "batch time"], causal: bool = True) -> SequenceLayout:
        """Rows with several documents; positions restart with each segment. Segments must be contiguous within a row."""
        time = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
        new = torch.ones_like(segments, dtype=torch.bool)
        new[:, 1:] = segments[:, 1:] != segments[:, :-1]
        start = torch.where(new, time, torch.zeros_like(time)).cummax(dim=1).values
        return cls(time - start, segments, causal)

    @property
    def view(self) -> View:
        """Who sees whom within these rows. Made anew for each layer: that costs little beside attention, and torch.compile, which makes it
        once, cannot trace a cached property. Padding sees padding (its own segment), so that no row of the mask is empty; its outputs
        carry no loss."""
        places = torch.arange(self.positions.shape[1], device=self.positions.device)[None]
        mask = None
        if self.segments is not None:
            same = self.segments[:, None, :, None] == self.segments[:, None, None, :]  # (batch, 1, time, time)
            mask = same.tril() if self.causal and self.prefix is None else same
        if self.causal and self.prefix is not None:
            before = (places[:, None, None, :] <= places[:, None, :, None]) | self.prefix[:, None, None, :]
            mask = before if mask is None else mask & before
        return View(places, places, mask, self.causal, self.causal and mask is None)

    def mixed(self, mix: Callable[..., Tensor], *x: Tensor) -> Tensor:
        """What `mix(*x, layout)` makes of whole rows."""
        return mix(*x, self)

    @property
    def mask(self) -> Bool[Tensor, "#batch 1 time time"] | None:
        """True where the row's token (dim 2) sees the column's (dim 3); None where all see all, or plain causality says it all."""
        return self.view.mask

    def across(self, source: SequenceLayout) -> View:
        """Which tokens of `source` these see: all of the document with the same segment number, in both directions of time."""
        queries, keys = self.view.queries, source.view.keys
        if self.segments is None and source.segments is None:
            return View(queries, keys)
        ours = torch.ones_like(self.positions) if self.segments is None else self.segments
        theirs = torch.ones_like(source.positions) if source.segments is None else source.segments
        return View(queries, keys, ours[:, None, :, None] == theirs[:, None, None, :])

    @cached_property
    def past(self) -> int:
        """How many slots of a position-addressed cache these tokens reach: the highest position + 1."""
        return int(self.positions.max()) + 1

    @cached_property
    def past_mask(self) -> Bool[Tensor, "batch 1 time past"] | None:
        """True where a token (dim 2) sees a slot (dim 3) of a position-addressed cache; None where every token sees them all. A prefix
        must come as a whole."""
        reach = self.positions
        if self.prefix is not None:
            reach = torch.where(self.prefix, reach.masked_fill(~self.prefix, 0).amax(1, keepdim=True), reach)
        if int(reach.min()) + 1 == self.past:
            return None
        return (torch.arange(self.past, device=reach.device) <= reach[:, :, None])[:, None]  # (batch, 1, time, past)

    @property
    def past_view(self) -> View:
        """Who sees which slot of a position-addressed cache."""
        return View(self.positions, torch.arange(self.past, device=self.positions.device)[None], self.past_mask, causal=True)

    def __getitem__(self, rows: slice) -> SequenceLayout:
        """The layout of some of the rows."""
        segments, prefix, parts = (None if one is None else one[rows] for one in (self.segments, self.prefix, self.parts))
        whole = None if self.whole is None else self.whole[rows]
        return SequenceLayout(self.positions[rows], segments, self.causal, prefix, parts, whole, self.alike)

    def to(self, device: torch.device | str) -> SequenceLayout:
        """The same layout on another device."""
        move = {"device": device, "non_blocking": True}
        segments, prefix, parts = (None if one is None else one.to(**move) for one in (self.segments, self.prefix, self.parts))
        whole = None if self.whole is None else self.whole.to(device)
        return SequenceLayout(self.positions.to(**move), segments, self.causal, prefix, parts, whole, self.alike)


@dataclass(frozen=True, eq=False)
class Passage:
    """What an encoder reads, for a decoder to write about: the decoder's document number s sees the passage's document number s.

    Attributes:
        tokens: (batch, source_time) ids.
        layout: of these tokens, both ways.
    """

    tokens: Int[Tensor, "batch source_time"]
    layout: SequenceLayout

    def __getitem__(self, rows: slice) -> Passage:
        """That of some of the rows."""
        return Passage(self.tokens[rows], self.layout[rows])

    def to(self, device: torch.device | str) -> Passage:
        """The same on another device."""
        return Passage(self.tokens.to(device, non_blocking=True), self.layout.to(device))
