"""`Source`: rows in one global order that depends on nothing but shards, packing and seed; and `Packed`, the source of one corpus.

Row i is a pure function: no batch size, number of ranks or resume point enters it. A step is a range of rows, a rank's share is a part of
that range, and the whole state of a source is a `Cursor`: how many rows have been consumed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64

from bloomery.core.errors import ConfigError, DataError
from bloomery.data.batch import Batch
from bloomery.data.packing import Packing, Pieces
from bloomery.data.shards import TokenShards
from bloomery.nn.layout import SequenceLayout


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """Where a source stands, as plain data: rows and tokens (rows · time, padding included) consumed by all ranks together."""

    rows: int = 0
    tokens: int = 0

    def to_plain(self) -> dict[str, int]:
        """For a checkpoint's JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, int]) -> Cursor:
        """Back from a checkpoint."""
        return cls(**plain)


class Span(NamedTuple):
    """A piece of a document in a row: tokens [start, stop) of document `id` of corpus `source` stand in `row` from `place` on."""

    row: int
    place: int
    id: str
    start: int
    stop: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Supply:
    """What one corpus contributes to a number of rows.

    Attributes:
        source: name of the corpus.
        rows: rows that come from it.
        tokens: real tokens in them, without padding (exact for whole epochs, in proportion for the last part of one).
        documents: documents that the corpus has.
        epochs: how often the corpus is passed over; above 1 it repeats.
        cut_documents: documents longer than a row, of which the packing leaves out the rest, per epoch.
        cut_tokens: tokens left out for that reason, per epoch.
        cut_learnt: those of them that were to be learnt, where the corpus says which are.
        unlearnt: further documents, left out, of which nothing is to be learnt within a row.
    """

    source: str
    rows: int
    tokens: int
    documents: int
    epochs: float
    cut_documents: int
    cut_tokens: int
    cut_learnt: int = 0
    unlearnt: int = 0

    def __str__(self) -> str:
        repeats = f", each about {self.epochs:.1f} times" if self.epochs > 1 else f", {self.epochs:.0%} of them used"
        longer = f"; {self.cut_documents} documents are longer than a row: {self.cut_tokens} tokens are cut per epoch"
        longer += f", {self.cut_learnt} of them to be learnt" if self.cut_learnt else ""
        cut = longer if self.cut_documents else ""
        cut += f"; {self.unlearnt} documents are left out, of which nothing in a row is to be learnt" if self.unlearnt else ""
        return f"{self.source}: {self.rows} rows, {self.tokens} tokens from {self.documents} documents{repeats}{cut}"


class Told(NamedTuple):
    """Labels as arrays: where the weight is 0 there are none."""

    targets: Float32[np.ndarray, "rows time"]
    weight: Float32[np.ndarray, "rows time"]


NOTHING_TOLD: Mapping[str, Told] = MappingProxyType({})


class Rows(NamedTuple):
    """A batch as arrays, before it becomes tensors; places without a document are padding of segment 0 and weight 0. `labels` are what heads
    are to tell, by their names."""

    tokens: Int64[np.ndarray, "rows time"]
    targets: Int64[np.ndarray, "rows time"]
    loss_weight: Float32[np.ndarray, "rows time"]
    segments: Int64[np.ndarray, "rows time"]
    labels: Mapping[str, Told] = NOTHING_TOLD

    @classmethod
    def empty(cls, rows: int, time: int, pad: int) -> Rows:
        """Padding only."""
        full = np.full((rows, time), pad, np.int64)
        return cls(full, full.copy(), np.zeros((rows, time), np.float32), np.zeros((rows, time), np.int64))


class Source(ABC):
    """Where batches come from.

    Attributes:
        time: tokens in a row.
        vocab_size: token ids are below it.
    """

    time: int
    vocab_size: int

    @abstractmethod
    def rows(self, first_row: int, rows: int) -> Rows:
        """Rows `first_row … first_row + rows − 1` of the global order as arrays."""

    @abstractmethod
    def documents(self, first_row: int, rows: int) -> list[Span]:
        """Which documents are in these rows, by row and place."""

    @abstractmethod
    def supply(self, rows: int) -> list[Supply]:
        """What each corpus contributes to the first `rows` rows: repetitions and cuts, to be told before step 0."""

    def turns(self, first_row: int, rows: int) -> bool:
        """Whether rows of another kind begin among these, so that losses before and after do not compare."""
        return False

    def figures(self, first_row: int, rows: int) -> Mapping[str, float]:
        """What is known of rows beside what is in them, for a step's metrics; nothing of most."""
        return {}

    def batch(self, first_row: int, rows: int) -> Batch:
        """Rows `first_row … first_row + rows − 1` of the global order.

        Args:
            first_row: from 0, without end: sources repeat.
            rows: ≥ 1.
        """
        arrays = self.rows(first_row, rows)
        layout = SequenceLayout.packed(torch.from_numpy(arrays.segments))
        tokens, targets, weight = (torch.from_numpy(array) for array in arrays[:3])
        return Batch(tokens, targets, weight, layout, first_row)

    def resume(self, cursor: Cursor, rows: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Batch, Cursor]]:
        """Steps of `rows` rows from the cursor on, without end.

        Args:
            cursor: where to begin.
            rows: per step, over all ranks.
            rank: which part of each step to yield; the parts of all ranks in order are the step.
            ranks: number of parts; they differ by one row at most.

        Yields:
            The rank's part of the step, and the cursor after the whole step: the same on each rank.

        Raises:
            ConfigError: the cursor counts rows of another length, or a rank would get no row.
        """
        if cursor.tokens != cursor.rows * self.time:
            raise ConfigError(f"the cursor stands at {cursor.rows} rows of {cursor.tokens} tokens, which are not rows of time={self.time}; "
                              "resume with the row length that the run began with")  # fmt: skip
        if rows < ranks:
            raise ConfigError(f"rows={rows} per step cannot be shared by {ranks} ranks; give at least {ranks}")
        low, high = rows * rank // ranks, rows * (rank + 1) // ranks
        while True:
            batch = self.batch(cursor.rows + low, high - low)
            cursor = Cursor(rows=cursor.rows + rows, tokens=cursor.tokens + rows * self.time)
            yield batch, cursor

    def sequence_hash(self, first_row: int, rows: int) -> int:
        """Σ hash(row, tokens of the row) mod 2⁶⁴: equal for equal data, however the rows were shared out; sums of parts are the whole's."""
        tokens = np.ascontiguousarray(self.rows(first_row, rows).tokens, "<i8")
        total = 0
        for i, row in enumerate(tokens):
            digest = hashlib.blake2b((first_row + i).to_bytes(8, "little") + row.tobytes(), digest_size=8).digest()
            total += int.from_bytes(digest, "little")
        return total % (1 << 64)

    def describe(self, rows: int) -> list[str]:
        """`supply` in sentences."""
        return [str(part) for part in self.supply(rows)]


class Packed(Source):
    """The rows of one corpus under one packing, epoch after epoch.

    The target of a place is the next token of the same document; its weight is the mask of that target (1 where shards have no mask, or one
    for labels), and 0 where the document ends and on padding. Documents of which nothing is to be learnt within a row are left out.

    Args:
        shards: the corpus.
        packing: `Cut()` or `Fit()`.
        time: tokens in a row, ≥ 1.
        seed: of the order of documents.
        name: of the corpus, for reports and traces.

    Raises:
        DataError: nothing is to be learnt from any document, or one with labels does not fit into a row.
    """

    def __init__(self, shards: TokenShards, packing: Packing, *, time: int, seed: int, name: str = "main") -> None:
        self.shards, self.packing, self.time, self.name = shards, packing, time, name
        self.vocab_size = shards.vocab_size
        if shards.head is not None:
            check_whole(shards, packing, time, name)
        self.kept = kept_of(shards, packing, time, name)
        self.lengths = shards.lengths if self.kept is None else shards.lengths[self.kept]
        self.arrangement = packing.arrange(self.lengths, time, seed)

    def pieces(self, first_row: int, rows: int) -> Pieces:
        """The pieces of documents in these rows."""
        pieces = self.arrangement.pieces(first_row, rows)
        return pieces if self.kept is None else replace(pieces, documents=self.kept[pieces.documents])

    def rows(self, first_row: int, rows: int) -> Rows:
        return self._fill(self.pieces(first_row, rows), first_row, rows)

    def once(self, rows: int) -> Iterator[Batch]:
        """Each document exactly once, in the order of epoch 0, `rows` rows at a time: for measuring on held-out text."""
        for first_row, arrays in self.rows_once(rows):
            tokens, targets, weight, segments = (torch.from_numpy(array) for array in arrays[:4])
            yield Batch(tokens, targets, weight, SequenceLayout.packed(segments), first_row)

    def rows_once(self, rows: int) -> Iterator[tuple[int, Rows]]:
        """The same as arrays, with the number of the first row."""
        total = self.arrangement.rows_per_epoch()
        for first_row in range(0, total, rows):
            count = min(rows, total - first_row)
            pieces = self.pieces(first_row, count)
            yield first_row, self._fill(pieces.where(pieces.epochs == 0), first_row, count)

    def documents(self, first_row: int, rows: int) -> list[Span]:
        p = self.pieces(first_row, rows)
        columns = (p.rows.tolist(), p.places.tolist(), p.documents.tolist(), p.starts.tolist(), (p.starts + p.lengths).tolist())
        return [Span(row, place, self.shards.id(d), start, stop, self.name) for row, place, d, start, stop in zip(*columns, strict=True)]

    def supply(self, rows: int) -> list[Supply]:
        cut, epochs, cuts = self.arrangement.cut(), self.arrangement.epochs(rows), self.shards.cuts
        tokens = round(epochs * (int(self.lengths.sum()) - cut.tokens))
        longer = np.flatnonzero(self.lengths > self.time) if cut.documents and self.shards.masked else np.arange(0)
        numbers = longer if self.kept is None else self.kept[longer]
        return [Supply(
            source=self.name, rows=rows, tokens=tokens, documents=len(self.lengths), epochs=epochs,
            cut_documents=cut.documents + int((cuts > 0).sum()), cut_tokens=cut.tokens + int(cuts.sum()),
            cut_learnt=sum(int(self.shards.mask(d, self.time).sum()) for d in numbers.tolist()) + int(self.shards.cuts_learnt.sum()),
            unlearnt=len(self.shards) - len(self.lengths),
        )]  # fmt: skip

    def unlearnt_rows(self, rows: int, at_once: int = 256) -> int:
        """How many of the first rows have nothing to be learnt: stretches of long documents that are only read, under packings that cut."""
        counted = (self.rows(first, min(at_once, rows - first)) for first in range(0, rows, at_once))
        return sum(int((~some.loss_weight.any(1)).sum()) for some in counted)

    def rows_within(self, epochs: float) -> int:
        """How many rows pass over the corpus no more than so often."""
        low, high = 0, 1
        while self.arrangement.epochs(high) <= epochs:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.arrangement.epochs(middle) <= epochs else (low, middle)
        return low

    def _fill(self, pieces: Pieces, first_row: int, rows: int) -> Rows:
        out = Rows.empty(rows, self.time, self.shards.pad)
        tokens, mask = self.shards.gather(pieces.documents, pieces.starts, pieces.lengths)
        ends = np.cumsum(pieces.lengths)  # where each piece ends among the gathered tokens
        begins = (pieces.rows - first_row) * self.time + pieces.places
        to = np.arange(len(tokens)) + np.repeat(begins - (ends - pieces.lengths), pieces.lengths)  # the flat place of each token
        if self.shards.head is not None and mask is not None:
            told = Told(np.zeros((rows, self.time), np.float32), np.zeros((rows, self.time), np.float32))
            at = to[mask > 0]
            told.targets.reshape(-1)[at] = np.concatenate([np.empty(0, np.float32), *map(self.shards.labels, pieces.documents.tolist())])
            told.weight.reshape(-1)[at] = 1
            out, mask = out._replace(labels={self.shards.head: told}), None
        on = np.flatnonzero(pieces.continued)
        next_tokens, next_mask = self.shards.gather(pieces.documents[on], pieces.starts[on] + pieces.lengths[on], np.ones_like(on))
        last, targets, weight = ends - 1, np.roll(tokens, -1), np.ones(len(tokens), np.float32) if mask is None else np.roll(mask, -1)
        targets[last], weight[last] = self.shards.pad, 0
        targets[last[on]], weight[last[on]] = next_tokens, 1 if next_mask is None else next_mask
        segments = np.arange(len(last)) - np.searchsorted(pieces.rows, pieces.rows) + 1  # numbered from 1 in each row
        out.tokens.reshape(-1)[to] = tokens
        out.targets.reshape(-1)[to] = targets
        out.loss_weight.reshape(-1)[to] = weight
        out.segments.reshape(-1)[to] = np.repeat(segments, pieces.lengths)
        return out


def check_whole(shards: TokenShards, packing: Packing, time: int, name: str) -> None:
    """Refuses rows in which the documents of a labelled corpus would not be whole: a label is of all of its document."""
    if not packing.whole:
        raise DataError(f"{name} has labels, each of a whole document, which packing={packing} cuts; take Fit()")
    if longer := int((shards.lengths > time).sum()):
        raise DataError(f"{longer} of the {len(shards)} documents of {name} are longer than max_seq_len={time}, and a label is of all of its "
                        f"document; give rows of {int(shards.lengths.max())}, or its encoding a smaller max_tokens")  # fmt: skip


def kept_of(shards: TokenShards, packing: Packing, time: int, name: str) -> Int64[np.ndarray, " kept"] | None:
    """The numbers of the documents of which something is to be learnt within a row; None where that is so of all.

    Raises:
        DataError: there is none.
    """
    if not shards.masked:
        return None
    learnt = shards.learnt
    if packing.whole and len(longer := np.flatnonzero(shards.lengths > time)):
        learnt = learnt.copy()
        learnt[longer] = [int(shards.mask(d, 0, time).sum()) for d in longer.tolist()]
    kept = np.flatnonzero(learnt)
    if not len(kept):
        raise DataError(f"nothing is to be learnt in the first {time} tokens of any of the {len(shards)} documents of {name}; give longer "
                        "rows, or look at which turns its encoding learns")  # fmt: skip
    return None if len(kept) == len(shards) else kept
