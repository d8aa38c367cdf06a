"""Caches: what a model remembers of the tokens that it has read, so that the next one costs one step.

A key-value cache is addressed by position: the key of the token at position p of its row lies in slot p, and a token at position p sees
the slots up to p. The layout alone thus says where to write and what to see, and three things need no further code: rows of different
lengths (padding on the right writes into slots that no token sees before they are overwritten), prompts read in pieces, and going back
to an earlier position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from bloomery.nn.layout import SequenceLayout
from bloomery.nn.slots import Plain, Slots

Make = Callable[[Slots], Slots]
"""Slots of a cache for one row and one place (and those of adapters before it) → empty ones for a cache of another size or kind."""


class Cache(ABC):
    """What a layer, or a whole model, remembers of the rows of a batch."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " kept"]) -> Cache:
        """The cache of some of the rows, copied: to drop rows that are done, to repeat one, or to reorder them."""

    @abstractmethod
    def other(self, batch: int, make: Make) -> Cache:
        """An empty cache of the same layers for so many rows, which keeps in other slots what it keeps by place."""

    def view(self, rows: slice) -> Cache:
        """The cache of some neighbouring rows, in the same memory: what is read there is remembered here."""
        raise NotImplementedError(f"the rows of a {type(self).__name__} cannot be looked at apart")

    def put(self, row: int, other: Cache, from_row: int, length: int) -> None:
        """Remembers of a row what another such cache, or this one, remembers of the first `length` places of one of its rows."""
        raise NotImplementedError(f"the rows of a {type(self).__name__} cannot be put into another")

    @property
    def by_place(self) -> bool:
        """Whether it can go back, to what it remembered of fewer tokens."""
        return True

    @property
    def slots(self) -> tuple[Slots, ...]:
        """What it keeps by place."""
        return ()


class PlacedCache(Cache):
    """What a layer remembers of each token, in slots by position, in memory that is taken once: keys and values, mostly.

    Args:
        slots: of what is kept, in the order in which it is written.
    """

    def __init__(self, *slots: Slots) -> None:
        self._slots = slots

    @classmethod
    def empty(cls, batch: int, capacity: int, shapes: Sequence[Sequence[int]], dtype: torch.dtype, device: torch.device) -> PlacedCache:
        """Room for tensors of these shapes, (width,) or (heads, width), of each of `capacity` tokens per row."""
        return cls(*(Plain.empty(batch, capacity, shape, dtype, device) for shape in shapes))

    @property
    def slots(self) -> tuple[Slots, ...]:
        return self._slots

    def write(self, layout: SequenceLayout, *new: Shaped[Tensor, "batch time ..."]) -> tuple[Any, ...]:
        """Stores the new tokens at their positions; returns all there is, and who sees what.

        Args:
            layout: of the new tokens: causal, and one document per row (segments are 1, or 0 for padding).
            new: (batch, time, …), for each of the slots.

        Returns:
            (batch, past, …) of each, with past = the highest position + 1, and a `View`.
        """
        packed = layout.segments is not None and int(layout.segments.max()) > 1
        assert not packed, "a cache is addressed by position, which packed rows repeat"
        assert layout.causal, "a cache holds the past, which says nothing to a layout that sees the future"
        rows = torch.arange(len(layout.positions), device=layout.positions.device)[:, None]  # (batch, 1), against positions (batch, time)
        for own, its in zip(self._slots, new, strict=True):
            own.write(rows, layout.positions, its)
        return *(own.read(layout.past).type_as(its) for own, its in zip(self._slots, new, strict=True)), layout.past_view

    def select(self, rows: Int[Tensor, " kept"]) -> PlacedCache:
        return PlacedCache(*(own.select(rows) for own in self._slots))

    def other(self, batch: int, make: Make) -> PlacedCache:
        return PlacedCache(*map(make, self._slots))

    def view(self, rows: slice) -> PlacedCache:
        return PlacedCache(*(own.view(rows) for own in self._slots))

    def put(self, row: int, other: Cache, from_row: int, length: int) -> None:
        for own, its in zip(self._slots, other.slots, strict=True):
            own.put(row, its, from_row, length)


class LayeredCache(Cache):
    """One cache per layer of a model."""

    def __init__(self, layers: Sequence[Cache]) -> None:
        self.layers = tuple(layers)

    def select(self, rows: Int[Tensor, " kept"]) -> LayeredCache:
        return LayeredCache([layer.select(rows) for layer in self.layers])

    def other(self, batch: int, make: Make) -> LayeredCache:
        return LayeredCache([layer.other(batch, make) for layer in self.layers])

    def view(self, rows: slice) -> LayeredCache:
        return LayeredCache([layer.view(rows) for layer in self.layers])

    def put(self, row: int, other: Cache, from_row: int, length: int) -> None:
        assert isinstance(other, LayeredCache)
        for own, its in zip(self.layers, other.layers, strict=True):
            own.put(row, its, from_row, length)

    @property
    def by_place(self) -> bool:
        return all(layer.by_place for layer in self.layers)

    @property
    def slots(self) -> tuple[Slots, ...]:
        return tuple(slots for layer in self.layers for slots in layer.slots)
