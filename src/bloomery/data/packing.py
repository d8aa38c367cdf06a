"""Packing: which piece of which document stands in which row. A plan knows lengths only, never tokens.

A packing is a value (`Cut()`, `Fit()`); with the documents' lengths, the row's length and a seed it becomes an `Arrangement`, which tells
the pieces of any row. Memory and planning time grow with the number of documents, not of tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Bool, Int

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.core.rng import numpy_rng

KEPT_EPOCHS = 2  # a batch may span the end of one epoch and the beginning of the next


@dataclass(frozen=True, eq=False)
class Pieces:
    """Runs of tokens of one document within one row, in the order of rows and of places in the row.

    Attributes:
        rows: the global row.
        places: the first place in the row.
        documents: number of the document.
        starts: the piece's first token within the document.
        lengths: tokens in the piece, ≥ 1.
        epochs: the pass over the documents that it belongs to.
        continued: whether the document goes on in the next row, so that its next token is the target of the piece's last place.
    """

    rows: Int[np.ndarray, " pieces"]
    places: Int[np.ndarray, " pieces"]
    documents: Int[np.ndarray, " pieces"]
    starts: Int[np.ndarray, " pieces"]
    lengths: Int[np.ndarray, " pieces"]
    epochs: Int[np.ndarray, " pieces"]
    continued: Bool[np.ndarray, " pieces"]

    def where(self, kept: Bool[np.ndarray, " pieces"]) -> Pieces:
        """Some of the pieces."""
        return Pieces(*(getattr(self, f.name)[kept] for f in fields(self)))

    @classmethod
    def joined(cls, parts: list[Pieces]) -> Pieces:
        """The pieces of all parts, in order."""
        return parts[0] if len(parts) == 1 else cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True, kw_only=True)
class CutReport:
    """What one epoch loses to the row's length: `documents` longer than a row, and the `tokens` beyond it."""

    documents: int
    tokens: int


class Arrangement(ABC):
    """Documents arranged in rows, epoch after epoch; row i is a pure function of (lengths, time, packing, seed, i).

    Args:
        lengths: (documents,) tokens of each, ≥ 1.
        time: tokens in a row, ≥ 1.
        seed: of the order of documents.
    """

    def __init__(self, lengths: Int[np.ndarray, " documents"], time: int, seed: int) -> None:
        if not len(lengths):
            raise DataError("there are no documents to pack; check the filters and the split that made the shards")
        self.lengths, self.time, self.seed = lengths, time, seed
        self._plans: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @abstractmethod
    def pieces(self, first_row: int, rows: int) -> Pieces:
        """The pieces of `rows` rows from `first_row` on."""

    @abstractmethod
    def epochs(self, rows: int) -> float:
        """How many passes over the documents the first `rows` rows are."""

    @abstractmethod
    def rows_per_epoch(self) -> int:
        """Rows that hold all of epoch 0; under `Cut` the last of them, or those shuffled with it, also hold the beginning of epoch 1."""

    @abstractmethod
    def cut(self) -> CutReport:
        """What each epoch leaves out."""

    def order(self, epoch: int) -> Int[np.ndarray, " documents"]:
        """The order of documents in an epoch: a permutation that is a function of seed and epoch."""
        return numpy_rng("documents", self.seed, epoch).permutation(len(self.lengths))

    def _kept(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The plan of an epoch; the last two are kept."""
        if epoch not in self._plans:
            while len(self._plans) >= KEPT_EPOCHS:
                del self._plans[min(self._plans)]
            self._plans[epoch] = self._plan(epoch)
        return self._plans[epoch]

    @abstractmethod
    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """What has to be worked out once per epoch: the order of the documents, and where they or the rows end in it."""


class Packing(Config):
    """How documents are laid into rows."""

    whole: ClassVar[bool] = False
    """Whether a document stands in one row, and what of it is too long for that is left out."""

    def arrange(self, lengths: Int[np.ndarray, " documents"], time: int, seed: int) -> Arrangement:
        """The arrangement of documents of these lengths in rows of `time` tokens."""
        raise NotImplementedError


class Cut(Packing):
    """Documents end to end in permuted order, cut into rows of exactly `time` tokens: no padding, nothing left out.

    The last place of a row predicts the true next token where its document goes on. The rest of a cut document starts the next row as a
    segment of its own, whose positions count from 0 again and which does not see the part in the row before. Rows run on across epochs.

    Source: Brown et al. (2020), arXiv 2005.14165, section 2.2 and appendix B; departure: documents in a row do not see each other.
    """

    shuffled: Annotated[int, Ge(1)] = 1
    """Rows are shuffled among so many that follow each other. 1 leaves them in order, so that a step reads a long document, such as a book, on
    and on, and little else."""

    def arrange(self, lengths: Int[np.ndarray, " documents"], time: int, seed: int) -> Arrangement:
        return _CutArrangement(lengths, time, seed, self.shuffled)


class Fit(Packing):
    """Whole documents only: each row is filled with those that fit best, and the rest of it is padding.

    In each `window` of the permuted order the documents go, longest first, to the open row with the least room that still takes them. The
    rows of an epoch are then shuffled, so that neighbours do not resemble each other in length. A document longer than a row keeps its
    first `time` tokens; `Arrangement.cut` says before step 0 how many are affected. To find a row of epoch e the epochs before it have to
    be planned, about 1 µs per document and epoch.

    Source: Ding et al. (2024), arXiv 2404.10830, section 3.2 (best-fit decreasing); departures: bounded window, shuffled rows, no
    splitting of long documents.
    """

    whole: ClassVar[bool] = True

    window: Annotated[int, Ge(1)] = 4096
    """Documents that are packed together; larger packs tighter."""

    def arrange(self, lengths: Int[np.ndarray, " documents"], time: int, seed: int) -> Arrangement:
        return _FitArrangement(lengths, time, seed, self.window)


class Each(Packing):
    """A document in each row, in permuted order; the rest of the row is padding, and what does not fit is left out. For rows that are only the
    beginning of something, such as prompts.
    """

    whole: ClassVar[bool] = True

    def arrange(self, lengths: Int[np.ndarray, " documents"], time: int, seed: int) -> Arrangement:
        return _EachArrangement(lengths, time, seed)


class _CutArrangement(Arrangement):
    """Row i is the stretch [k·time, (k+1)·time) of the endless stream of epochs; k is i, shuffled among `shuffled` rows."""

    def __init__(self, lengths: Int[np.ndarray, " documents"], time: int, seed: int, shuffled: int) -> None:
        super().__init__(lengths, time, seed)
        self.shuffled = shuffled

    def pieces(self, first_row: int, rows: int) -> Pieces:
        if self.shuffled == 1:
            return self._stretch(first_row, rows)
        return Pieces.joined([self._one(first_row + i, int(k)) for i, k in enumerate(self._places(first_row, rows))])

    def _places(self, first_row: int, rows: int) -> Int[np.ndarray, " rows"]:
        """Where in the stream these rows are, in rows."""
        first, last = first_row // self.shuffled, (first_row + rows - 1) // self.shuffled
        whole = [k * self.shuffled + numpy_rng("shuffled", self.seed, k).permutation(self.shuffled) for k in range(first, last + 1)]
        return np.concatenate(whole)[first_row - first * self.shuffled :][:rows]

    def _one(self, row: int, place: int) -> Pieces:
        """A row that is to be had from another place of the stream."""
        there = self._stretch(place, 1)
        return replace(there, rows=np.full_like(there.rows, row))

    def _stretch(self, first_row: int, rows: int) -> Pieces:
        total, parts = int(self.lengths.sum()), []
        begin, end = first_row * self.time, (first_row + rows) * self.time
        for epoch in range(begin // total, -(-end // total)):
            low, high = max(begin - epoch * total, 0), min(end - epoch * total, total)  # within the epoch
            parts.append(self._epoch_pieces(epoch, epoch * total, low, high))
        return Pieces.joined(parts)

    def _epoch_pieces(self, epoch: int, base: int, low: int, high: int) -> Pieces:
        order, ends = self._kept(epoch)
        first, last = np.searchsorted(ends, [low, high - 1], side="right")
        row_starts = np.arange(-(-(base + low) // self.time), -(-(base + high) // self.time)) * self.time - base
        starts = np.union1d(np.concatenate([[low], ends[first:last]]), row_starts)  # a piece begins with a document or with a row
        lengths = np.diff(starts, append=high)
        at = np.searchsorted(ends, starts, side="right")  # in the permuted order
        documents = order[at]
        within = starts - (ends[at] - self.lengths[documents])
        continued = within + lengths < self.lengths[documents]
        rows, places = np.divmod(base + starts, self.time)
        return Pieces(rows, places, documents, within, lengths, np.full_like(starts, epoch), continued)

    def epochs(self, rows: int) -> float:
        return rows * self.time / int(self.lengths.sum())

    def rows_per_epoch(self) -> int:
        return -(-int(self.lengths.sum()) // (self.time * self.shuffled)) * self.shuffled

    def cut(self) -> CutReport:
        return CutReport(documents=0, tokens=0)

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = self.order(epoch)
        return order, np.cumsum(self.lengths[order])


class _FitArrangement(Arrangement):
    """Rows of whole documents; the plan of an epoch lists its documents row by row."""

    def __init__(self, lengths: Int[np.ndarray, " documents"], time: int, seed: int, window: int) -> None:
        super().__init__(lengths, time, seed)
        self.window = window
        self._fitted = np.minimum(lengths, time)
        self._first_rows = [0]  # of the epochs planned so far, and of the next

    def pieces(self, first_row: int, rows: int) -> Pieces:
        parts, end = [], first_row + rows
        for epoch in range(self._epoch_of(first_row), self._epoch_of(end - 1) + 1):
            order, offsets = self._kept(epoch)
            base = self._first_rows[epoch]
            low, high = max(first_row - base, 0), min(end - base, len(offsets) - 1)  # within the epoch
            documents = order[offsets[low] : offsets[high]]
            counts = np.diff(offsets[low : high + 1])  # documents per row
            lengths = self._fitted[documents]
            before = np.cumsum(lengths) - lengths
            places = before - np.repeat(before[offsets[low:high] - offsets[low]], counts)
            row_numbers = np.repeat(np.arange(base + low, base + high), counts)
            zeros = np.zeros_like(lengths)
            parts.append(Pieces(row_numbers, places, documents, zeros, lengths, zeros + epoch, zeros.astype(bool)))
        return Pieces.joined(parts)

    def epochs(self, rows: int) -> float:
        if not rows:
            return 0.0
        epoch = self._epoch_of(rows - 1)
        first, after = self._first_rows[epoch], self._first_rows[epoch + 1]
        return epoch + (rows - first) / (after - first)

    def rows_per_epoch(self) -> int:
        self._epoch_of(0)
        return self._first_rows[1]

    def cut(self) -> CutReport:
        over = self.lengths[self.lengths > self.time]
        return CutReport(documents=len(over), tokens=int((over - self.time).sum()))

    def _epoch_of(self, row: int) -> int:
        """The epoch that a row belongs to; plans the epochs up to it where that has not been done."""
        while self._first_rows[-1] <= row:
            self._kept(len(self._first_rows) - 1)
        return int(np.searchsorted(self._first_rows, row, side="right")) - 1

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order, rows, count = self.order(epoch), np.empty(len(self.lengths), np.int64), 0
        for begin in range(0, len(order), self.window):
            lengths = self._fitted[order[begin : begin + self.window]]
            longest_first = np.argsort(-lengths, kind="stable")
            placed, used = best_fit(lengths[longest_first].tolist(), self.time)
            rows[begin + longest_first] = np.array(placed) + count
            count += used
        rows = numpy_rng("rows", self.seed, epoch).permutation(count)[rows]
        if epoch == len(self._first_rows) - 1:
            self._first_rows.append(self._first_rows[-1] + count)
        return order[np.argsort(rows, kind="stable")], np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])


class _EachArrangement(Arrangement):
    """Row i is document i of the endless stream of epochs."""

    def pieces(self, first_row: int, rows: int) -> Pieces:
        numbers = np.arange(first_row, first_row + rows)
        epochs, at = np.divmod(numbers, len(self.lengths))
        documents = np.array([self._kept(epoch)[0][k] for epoch, k in zip(epochs.tolist(), at.tolist(), strict=True)], np.int64)
        zeros = np.zeros_like(numbers)
        return Pieces(numbers, zeros, documents, zeros, np.minimum(self.lengths[documents], self.time), epochs, zeros.astype(bool))

    def epochs(self, rows: int) -> float:
        return rows / len(self.lengths)

    def rows_per_epoch(self) -> int:
        return len(self.lengths)

    def cut(self) -> CutReport:
        over = self.lengths[self.lengths > self.time]
        return CutReport(documents=len(over), tokens=int((over - self.time).sum()))

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = self.order(epoch)
        return order, np.arange(1, len(order) + 1)


def best_fit(lengths: list[int], capacity: int) -> tuple[list[int], int]:
    """Puts each length, in the given order, into the open row with the least room that takes it; opens a new one where none does.

    The rooms that some row has are the bits of one integer, so that the least sufficient one is a shift and a lowest set bit away.

    Args:
        lengths: each from 1 to `capacity`.
        capacity: of a row.

    Returns:
        The row of each, and the number of rows.
    """
    rows_with: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms, used, placed = 0, 0, []
    for length in lengths:
        sufficient = rooms >> length
        if sufficient:
            room = length + (sufficient & -sufficient).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                rooms ^= 1 << room
        else:
            room, row, used = capacity, used, used + 1
        placed.append(row)
        if left := room - length:
            rows_with[left].append(row)
            rooms |= 1 << left
    return placed, used
