"""`MinHash`: each text once, and none that is nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Le

from bloomery.text.filters.components import Components
from bloomery.text.filters.filter import GlobalFilter, Notes, Verdicts
from bloomery.text.filters.repeats import AT_ONCE, Repeats, packed
from bloomery.text.filters.sketches import Samples, band_keys, samples, sketches
from bloomery.text.shingles import U64, shingles, words_of

NEIGHBOURS = 16  # documents before it that a document is compared with, among those that share a band


class MinHash(GlobalFilter):
    """Drops documents that are nearly the same as another one: all of a group of near duplicates but one.

    A text counts as the set of its word shingles: runs of `shingle_words` words (see `bloomery.text.shingles` for what words are). Of it,
    `bands` times `rows` min-hashes are taken; two texts of Jaccard similarity s agree on all hashes of some band with probability
    1 - (1 - s^rows)^bands, and become candidates. Candidates are compared by the Jaccard similarity of their shingles itself; with
    `min_jaccard` or more they are near duplicates. Documents joined by near duplicates, directly or through others, are a group; one of them
    stays, and the verdict names it and gives the similarity to it.

    Since candidates are verified, more of them do no harm: the same hashes are dealt out to the bands in several ways. Of many documents that
    share a band, each is compared with the first and with the 16 before it.

    The defaults are for documents of some hundred words. Texts of a few sentences, in which an edit breaks a large part of the shingles, want
    shorter ones and more chances to meet; for the tales: `MinHash(shingle_words=3, bands=28, rows=4, min_jaccard=0.55)`.

    Source: Broder (1997), doi:10.1109/SEQUEN.1997.666900; the values are those of FineWeb, Penedo et al. (2024), arXiv 2406.17557. Sketches:
    Dahlgaard et al. (2017), arXiv 1704.04370; departures: 4 random rounds in the place of one per hash. Departures from FineWeb: candidates are
    verified, and bands are arranged twice.
    """

    bands: Annotated[int, Ge(1)] = 14
    """How many chances two texts get to meet."""
    rows: Annotated[int, Ge(1)] = 8
    """How many hashes must agree each time."""
    shingle_words: Annotated[int, Ge(1)] = 5
    """Words in a shingle; a text with fewer words is one shingle."""
    arrangements: Annotated[int, Ge(1)] = 2
    """How often the hashes are dealt out to the bands, in another order each time."""
    min_jaccard: Annotated[float, Ge(0), Le(1)] = 0.6
    """Texts are near duplicates from this share of common shingles on (intersection over union, 0 to 1); 0 takes candidates as they are."""
    keep: Literal["first", "longest"] = "first"
    """Which document of a group stays: the first in source order, or the one with most words; one of an earlier corpus goes before either."""

    def caught(self, jaccard: float) -> float:
        """The probability that a pair of this similarity becomes a candidate by one arrangement of the bands; more of them add to it.

        Example:
            >>> [round(MinHash().caught(s), 3) for s in (0.5, 0.7, 0.8, 0.9)]
            [0.053, 0.565, 0.924, 1.0]
        """
        return 1 - (1 - jaccard**self.rows) ** self.bands

    def note(self, batch: pa.RecordBatch) -> pa.Table:
        hashes, bounds = shingles(words_of(batch.column("text")), self.shingle_words)
        counts = np.diff(bounds)
        row = np.flatnonzero(counts)  # an empty text resembles nothing
        counts, bounds = counts[row], np.append(bounds[row], len(hashes))
        keys = band_keys(sketches(hashes, bounds, self.bands * self.rows), self.bands, self.rows, self.arrangements)
        column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(8 * keys.shape[1]), len(row), [None, pa.py_buffer(keys)])
        return pa.table({"row": row, "shingles": counts, "bands": column, "sample": packed(*samples(hashes, counts))})

    def resolve(self, notes: Notes) -> pa.Table:
        return resolve(self, notes)

    def apply(self, batch: pa.RecordBatch, decisions: pa.Table) -> Verdicts:
        rows, n = decisions["row"].to_numpy(), batch.num_rows
        jaccard = decisions["jaccard"].to_numpy()
        reasons, values = np.full(n, None, object), np.full(n, np.nan)
        direct = jaccard >= self.min_jaccard
        of = zip(decisions["of"].to_pylist(), direct.tolist(), strict=True)
        reasons[rows] = [f"near duplicate of {id}" if near else f"near duplicate of near duplicates of {id}" for id, near in of]
        values[rows] = jaccard
        column = pa.array(reasons, pa.string())
        return Verdicts(
            batch=batch, reasons=column, dropped=pc.is_valid(column), values=pa.array(values, from_pandas=True), threshold=self.min_jaccard,
        )  # fmt: skip


def resolve(filter: MinHash, notes: Notes, at_once: int = AT_ONCE) -> pa.Table:
    """`MinHash.resolve`, with at most so many keys or shingles in memory at once."""
    width = filter.bands * filter.arrangements
    meetings = Repeats(_meetings(notes, width), notes.scratch, at_once)
    wanted = np.zeros(notes.rows, bool)
    for places, _ in meetings:
        wanted[places] = True
    known = Samples(notes, wanted, at_once)
    joined = Components(notes.rows)
    proven: list[tuple[np.ndarray, np.ndarray]] = []  # near duplicates, as keys of pairs and similarities
    for places, starts in meetings:
        refuted = np.empty(0, np.int64)
        for low, high in _pairs(places, starts):
            open_ = (high >= notes.first) & (joined.find(low) != joined.find(high))
            pairs = np.setdiff1d(low[open_] * notes.rows + high[open_], refuted)
            low, high = np.divmod(pairs, notes.rows)
            jaccard = known.jaccard(low, high)
            near = jaccard >= filter.min_jaccard
            joined.join(low[near], high[near])
            proven.append((pairs[near], jaccard[near]))
            refuted = np.union1d(refuted, pairs[~near])
    members = np.flatnonzero(wanted)
    root = joined.find(members)
    kept = root if filter.keep == "first" else _longest(members, root, known.counts, notes.first)
    gone = (kept != members) & (members >= notes.first)
    row, of = members[gone], kept[gone]
    return pa.table({"row": row, "of": of, "jaccard": _similarities(row, of, notes.rows, proven, known)})


def _meetings(notes: Notes, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for table in notes.tables(["row", "bands"]):
        for chunk in table["bands"].chunks:
            keys = np.frombuffer(chunk.buffers()[1], U64)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
            yield keys, np.repeat(table["row"].to_numpy(), width)


def _pairs(places: np.ndarray, starts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places that share a key: first the first with each other, then neighbours, then their neighbours; the lower one first."""
    group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    yield places[starts[:-1]][group], places
    for apart in range(1, NEIGHBOURS + 1):
        same = group[apart:] == group[:-apart]
        if not same.any():
            return
        yield places[:-apart][same], places[apart:][same]


def _longest(members: np.ndarray, root: np.ndarray, counts: np.ndarray, first: int) -> np.ndarray:
    order = np.lexsort((members, -counts, root))
    begins = np.concatenate([[True], np.diff(root[order]) != 0])[: len(order)]
    longest = np.empty_like(members)
    longest[order] = members[order][np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return np.where(root < first, root, longest)


def _similarities(row: np.ndarray, of: np.ndarray, rows: int, proven: list[tuple[np.ndarray, np.ndarray]], known: Samples) -> np.ndarray:
    """The similarity of each document and the one kept for it: as found before, or found now."""
    pairs, jaccard = (np.concatenate([p[i] for p in proven] or [np.empty(0, np.int64)]) for i in (0, 1))
    order = np.argsort(pairs)
    pairs, jaccard = pairs[order], jaccard[order]
    sought = np.minimum(row, of) * rows + np.maximum(row, of)
    at = np.minimum(np.searchsorted(pairs, sought), max(0, len(pairs) - 1))
    found = pairs[at] == sought if len(pairs) else np.zeros(len(sought), bool)
    values = np.empty(len(sought))
    values[found] = jaccard[at[found]]
    values[~found] = known.jaccard(row[~found], of[~found])
    return values
