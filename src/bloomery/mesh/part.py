"""`Part`: which part of a tensor a rank holds; what checkpoints, initialisation and optimisers that need whole matrices go by.

Along each dimension a part is some runs of indices, one after the other. A matrix that holds several (queries, keys and values), each divided
among ranks, has as many runs in its rows; a stretch of them that ZeRO leaves to a rank has fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor

Runs = tuple[range, ...]


@dataclass(frozen=True)
class Piece:
    """A box of a tensor: where it begins in the whole, where in the part, and its shape."""

    start: tuple[int, ...]
    local: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """Some indices of each dimension of a tensor.

    Attributes:
        shape: of the whole.
        runs: of each dimension.
    """

    shape: tuple[int, ...]
    runs: tuple[Runs, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Part:
        """All of it."""
        return cls(tuple(shape), tuple((range(n),) for n in shape))

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Of the part."""
        return tuple(sum(map(len, runs)) for runs in self.runs)

    def divided(self, dim: int, blocks: Sequence[int], index: int, count: int) -> Part:
        """The share of one of `count` ranks of a whole dimension, in which blocks lie one after the other, each divided evenly."""
        assert sum(blocks) == self.shape[dim]
        assert self.runs[dim] == (range(self.shape[dim]),)
        runs, start = [], 0
        for height in blocks:
            share = height // count
            assert share * count == height, f"{count} ranks do not divide {height}"
            runs.append(range(start + index * share, start + (index + 1) * share))
            start += height
        return self._with(dim, tuple(runs))

    def stretch(self, dim: int, index: int, count: int) -> Part:
        """The stretch of a dimension that torch leaves to one of `count` ranks: ⌈n / count⌉ each, the last ones less or nothing."""
        length = self.local_shape[dim]
        size = -(-length // count)
        low, high = min(index * size, length), min((index + 1) * size, length)
        runs, at = [], 0
        for run in self.runs[dim]:
            first, last = max(low - at, 0), min(high - at, len(run))
            if first < last:
                runs.append(run[first:last])
            at += len(run)
        return self._with(dim, tuple(runs))

    def take(self, whole: Tensor) -> Tensor:
        """The part of a whole tensor; a view where it is one run of one dimension."""
        for dim, runs in enumerate(self.runs):
            if runs != (range(self.shape[dim]),):
                pieces = [whole.narrow(dim, run.start, len(run)) for run in runs]
                whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim) if pieces else whole.narrow(dim, 0, 0)
        return whole

    def put(self, whole: Tensor, part: Tensor) -> None:
        """Writes the part into a whole tensor."""
        for piece in self.pieces():
            box(whole, piece.start, piece.shape).copy_(box(part, piece.local, piece.shape))

    def pieces(self) -> Iterator[Piece]:
        """The boxes that it is made of; none where it is empty."""
        offsets = []
        for runs in self.runs:
            starts = [0]
            for run in runs:
                starts.append(starts[-1] + len(run))
            offsets.append(list(zip(runs, starts, strict=False)))
        for chosen in product(*offsets):
            shape = tuple(len(run) for run, _ in chosen)
            if prod(shape):
                yield Piece(tuple(run.start for run, _ in chosen), tuple(local for _, local in chosen), shape)

    def _with(self, dim: int, runs: Runs) -> Part:
        return Part(self.shape, (*self.runs[:dim], runs, *self.runs[dim + 1 :]))


def box(tensor: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """A view of a box of a tensor."""
    for dim, (at, length) in enumerate(zip(start, shape, strict=True)):
        tensor = tensor.narrow(dim, at, length)
    return tensor
