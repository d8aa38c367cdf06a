"""`DuplicateParagraphs` and `DuplicateLines`: each paragraph, or line, once in the whole corpus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from annotated_types import Ge

from bloomery.text.filters.cutting import cut_verdicts
from bloomery.text.filters.filter import GlobalFilter, Notes, Verdicts
from bloomery.text.filters.repeats import AT_ONCE, Repeats, packed, unpacked
from bloomery.text.shingles import GOLDEN, U64, mixed, utf8, words_of

NEWLINE = 10
BLANKS = np.frombuffer(bytes(b in b" \t\n\r\x0b\x0c" for b in range(256)), bool)


class Pieces(NamedTuple):
    """What texts fall into, in order.

    Attributes:
        starts: where each begins in the bytes of all texts; it ends where the next one of its text begins, or the text ends.
        ends: that end.
        rows: whose each is.
    """

    starts: np.ndarray
    ends: np.ndarray
    rows: np.ndarray


class _OfPieces(GlobalFilter):
    """Cuts out of each plain document the pieces that came before, and drops documents of which nothing is left.

    Pieces are the same if their words are, whatever their case, punctuation and white space. Conversations are left alone: without some of its
    lines a turn no longer answers the one before it. Two different pieces are taken for the same one with probability 2^-64.
    """

    noun: ClassVar[str]

    min_words: Annotated[int, Ge(1)] = 4
    """Pieces with fewer words stay, however often they occur."""
    min_count: Annotated[int, Ge(2)] = 2
    """Pieces that occur so often in the corpus are cut, but for the first time."""

    def pieces(self, text: pa.StringArray) -> Pieces:
        """What each text falls into."""
        raise NotImplementedError

    def note(self, batch: pa.RecordBatch) -> pa.Table:
        keys, pieces = self._keys(batch)
        counts = np.bincount(pieces.rows, minlength=batch.num_rows)
        row = np.flatnonzero(counts)
        return pa.table({"row": row, "pieces": packed(keys, counts[row])})

    def resolve(self, notes: Notes) -> pa.Table:
        return resolve(self, notes)

    def apply(self, batch: pa.RecordBatch, decisions: pa.Table) -> Verdicts:
        if not decisions.num_rows:
            return Verdicts.keep(batch)
        _, pieces = self._keys(batch)
        first = np.searchsorted(pieces.rows, np.arange(batch.num_rows))
        rows = decisions["row"].to_numpy()
        cut = first[rows] + decisions["piece"].to_numpy()
        counts = np.bincount(rows, minlength=batch.num_rows)
        reasons = np.full(batch.num_rows, None, object)
        reasons[rows[::-1]] = [f"{self.noun} of {id}" for id in decisions["of"].to_pylist()[::-1]]  # the first one of a document is said last
        values = pa.array(counts, pa.float64(), mask=counts == 0)
        return cut_verdicts(
            batch, pieces.starts[cut], pieces.ends[cut], pa.array(reasons, pa.string()), f"nothing but {self.noun}s that came before", values,
        )  # fmt: skip

    def _keys(self, batch: pa.RecordBatch) -> tuple[np.ndarray, Pieces]:
        """The pieces that count, and a hash of the words of each."""
        text = batch.column("text")
        words = words_of(text)
        pieces = self.pieces(text)
        low, high = np.searchsorted(words.starts, pieces.starts), np.searchsorted(words.starts, pieces.ends)
        plain = batch.column("messages").is_null().to_numpy(zero_copy_only=False)
        counted = (high - low >= self.min_words) & plain[pieces.rows]
        sums = np.zeros(len(words.hashes) + 1, U64)
        place = np.arange(len(words.hashes)) - np.repeat(low, high - low) if len(low) else np.empty(0, np.int64)
        np.cumsum(mixed(words.hashes + place.astype(U64) * GOLDEN), out=sums[1:])
        keys = mixed(sums[high[counted]] - sums[low[counted]])
        return keys, Pieces(*(column[counted] for column in pieces))


class DuplicateLines(_OfPieces):
    """Cuts lines that came before, anywhere in the corpus: menus, headers and footers of pages.

    Source: Wenzek et al. (2020), CCNet, arXiv 1911.00359, which removes paragraphs so; departures: in the whole corpus and not in a shard of
    it, the first occurrence stays, short lines stay, keys are of words.
    """

    noun: ClassVar[str] = "line"

    def pieces(self, text: pa.StringArray) -> Pieces:
        data, offsets = utf8(text)
        return _lines(data, offsets)


class DuplicateParagraphs(_OfPieces):
    """Cuts paragraphs that came before, anywhere in the corpus. A paragraph ends at a blank line.

    Source: Wenzek et al. (2020), CCNet, arXiv 1911.00359; departures: in the whole corpus and not in a shard of it, the first occurrence
    stays, short paragraphs stay, paragraphs may have several lines, keys are of words.
    """

    noun: ClassVar[str] = "paragraph"

    def pieces(self, text: pa.StringArray) -> Pieces:
        data, offsets = utf8(text)
        lines = _lines(data, offsets)
        inked = np.concatenate([[0], np.cumsum(~BLANKS[data])])
        full = inked[lines.ends] > inked[lines.starts]
        after_blank = np.concatenate([[True], ~full[:-1] | (lines.rows[1:] != lines.rows[:-1])])[: len(full)]
        begins = full & after_blank
        starts, rows = lines.starts[begins], lines.rows[begins]
        return Pieces(starts, _ends(starts, rows, offsets), rows)


def resolve(filter: _OfPieces, notes: Notes, at_once: int = AT_ONCE) -> pa.Table:
    """`resolve` of either filter, with at most so many keys in memory at once."""
    rows, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]

    def keys() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        for table in notes.tables(["row", "pieces"]):
            rows.append(table["row"].to_numpy())
            for chunk in table["pieces"].chunks:
                values, sizes = unpacked(chunk, U64)
                counts.append(sizes)
                yield values, np.arange(start, start + len(values))
                start += len(values)

    cut, of = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for places, starts in Repeats(keys(), notes.scratch, at_once):
        sizes = np.diff(starts)
        first = np.repeat(places[starts[:-1]], sizes)
        again = (places != first) & (np.repeat(sizes, sizes) >= filter.min_count)
        cut.append(places[again])
        of.append(first[again])
    row, ends = np.concatenate(rows), np.cumsum(np.concatenate(counts))
    begins = ends - np.concatenate(counts)
    cut_at, of_at = np.concatenate(cut), np.concatenate(of)
    order = np.argsort(cut_at)
    cut_at, of_at = cut_at[order], of_at[order]
    whose, origin = (np.searchsorted(ends, at, "right") for at in (cut_at, of_at))
    mine = row[whose] >= notes.first
    return pa.table({"row": row[whose][mine], "piece": (cut_at - begins[whose])[mine], "of": row[origin][mine]})


def _lines(data: np.ndarray, offsets: np.ndarray) -> Pieces:
    after = np.flatnonzero(data == NEWLINE) + 1
    starts = np.union1d(offsets[:-1][offsets[:-1] < offsets[1:]], after[after < len(data)])
    rows = np.searchsorted(offsets, starts, "right") - 1
    return Pieces(starts, _ends(starts, rows, offsets), rows)


def _ends(starts: np.ndarray, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.minimum(np.append(starts[1:], offsets[-1]), offsets[rows + 1])
