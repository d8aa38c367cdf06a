"""Caches: what a model remembers of the tokens that it has read, so that the next one costs one step.

A key-value cache is addressed by position: the key of the token at position p of its row lies in slot p, and a token at position p sees
the slots up to p. The layout alone thus says where to write and what to see, and three things need no further code: rows of different
lengths (padding on the right writes into slots that no token sees before they are overwritten), prompts read in pieces, and going back
to an earlier position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bloomery.nn.layout import SequenceLayout


class Cache(ABC):
    """What a layer, or a whole model, remembers of the rows of a batch."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " kept"]) -> Cache:
        """The cache of some of the rows, copied: to drop rows that are done, to repeat one, or to reorder them."""

    def view(self, rows: slice) -> Cache:
        """The cache of some neighbouring rows, in the same memory: what is read there is remembered here."""
        raise NotImplementedError(f"the rows of a {type(self).__name__} cannot be looked at apart")

    def put(self, row: int, other: Cache, from_row: int, length: int) -> None:
        """Remembers of a row what another such cache, or this one, remembers of the first `length` tokens of one of its rows."""
        raise NotImplementedError(f"the rows of a {type(self).__name__} cannot be put into another")

    @property
    def by_place(self) -> bool:
        """Whether it can go back, to what it remembered of fewer tokens."""
        return True


class PlacedCache(Cache):
    """What a layer remembers of each token, in slots by position, in memory that is allocated once. Made of what it keeps."""

    @property
    @abstractmethod
    def kept(self) -> tuple[Tensor, ...]:
        """(batch, capacity, …) each; a slot that was never written must still hold numbers."""

    def write(self, layout: SequenceLayout, *new: Shaped[Tensor, "batch time ..."]) -> tuple[Any, ...]:
        """Stores the new tokens at their positions; returns all there is, and who sees what.

        Args:
            layout: of the new tokens: causal, and one document per row (segments are 1, or 0 for padding).
            new: (batch, time, …), of each of `kept`.

        Returns:
            (batch, past, …) of each, with past = the highest position + 1, and a `View`.
        """
        packed = layout.segments is not None and int(layout.segments.max()) > 1
        assert not packed, "a cache is addressed by position, which packed rows repeat"
        assert layout.causal, "a cache holds the past, which says nothing to a layout that sees the future"
        rows = torch.arange(len(layout.positions), device=layout.positions.device)[:, None]  # (batch, 1), against positions (batch, time)
        for own, its in zip(self.kept, new, strict=True):
            own[rows, layout.positions] = its
        return *(own[:, : layout.past] for own in self.kept), layout.past_view

    def select(self, rows: Int[Tensor, " kept"]) -> PlacedCache:
        return type(self)(*(own[rows] for own in self.kept))

    def view(self, rows: slice) -> PlacedCache:
        return type(self)(*(own[rows] for own in self.kept))

    def put(self, row: int, other: Cache, from_row: int, length: int) -> None:
        assert isinstance(other, PlacedCache)
        for own, its in zip(self.kept, other.kept, strict=True):
            own[row, :length] = its[from_row, :length]


class KeyValueCache(PlacedCache):
    """The keys and values of one attention layer.

    Args:
        keys: (batch, capacity, n_kv_heads, head_dim).
        values: the same shape.
    """

    def __init__(self, keys: Float[Tensor, "batch capacity heads head_dim"], values: Float[Tensor, "batch capacity heads head_dim"]) -> None:
        self.keys, self.values = keys, values

    @property
    def kept(self) -> tuple[Tensor, ...]:
        return self.keys, self.values

    @classmethod
    def empty(cls, batch: int, capacity: int, n_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> KeyValueCache:
        """Room for `capacity` tokens per row; zeros, since a slot that was never written must still be a number to be masked."""
        shape = (batch, n_kv_heads, capacity, head_dim)  # in memory, head by head: so attention reads them, a quarter faster
        keys, values = (torch.zeros(shape, dtype=dtype, device=device).transpose(1, 2) for _ in range(2))
        return cls(keys, values)

    def select(self, rows: Int[Tensor, " kept"]) -> KeyValueCache:
        return type(self)(*(own.transpose(1, 2)[rows].transpose(1, 2) for own in self.kept))  # which keeps the heads apart


class LayeredCache(Cache):
    """One cache per layer of a model."""

    def __init__(self, layers: Sequence[Cache]) -> None:
        self.layers = tuple(layers)

    def select(self, rows: Int[Tensor, " kept"]) -> LayeredCache:
        return LayeredCache([layer.select(rows) for layer in self.layers])

    def view(self, rows: slice) -> LayeredCache:
        return LayeredCache([layer.view(rows) for layer in self.layers])

    def put(self, row: int, other: Cache, from_row: int, length: int) -> None:
        assert isinstance(other, LayeredCache)
        for own, its in zip(self.layers, other.layers, strict=True):
            own.put(row, its, from_row, length)

    @property
    def by_place(self) -> bool:
        return all(layer.by_place for layer in self.layers)
