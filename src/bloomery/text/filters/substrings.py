"""`DuplicateSubstrings`: each long passage once, wherever in documents it stands."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
import pyarrow as pa
from annotated_types import Ge

from bloomery.text.filters.cutting import cut_verdicts
from bloomery.text.filters.filter import GlobalFilter, Notes, Verdicts
from bloomery.text.filters.repeats import AT_ONCE, Repeats, packed, unpacked
from bloomery.text.shingles import U64, Words, windows, words_of


class DuplicateSubstrings(GlobalFilter):
    """Cuts every passage of `min_words` words or more that came before, in another document or further up in the same one.

    A run of `min_words` words is cut if the same words (case, punctuation and white space aside) stood somewhere before it without overlapping
    it; longer passages are cut run by run, so all of them goes. Documents of which no word is left are dropped; conversations are left alone.
    What stands on both sides of a cut comes to stand together, so a second application may, rarely, find one more passage.

    The notes take 8 bytes, and deciding another 16 on disk, for each word. Two runs are taken for the same one with probability 2^-64.

    Source: Lee et al. (2022), arXiv 2107.06499; departures: words in the place of subword tokens, hashes of runs in the place of a suffix
    array, and the first occurrence stays.
    """

    min_words: Annotated[int, Ge(2)] = 50
    """The shortest passage that is cut."""

    def note(self, batch: pa.RecordBatch) -> pa.Table:
        words = words_of(batch.column("text"))
        counts = np.diff(words.bounds)
        plain = batch.column("messages").is_null().to_numpy(zero_copy_only=False)
        row = np.flatnonzero((counts >= self.min_words) & plain)
        keys = windows(words.hashes, self.min_words)
        inside = np.zeros(len(keys) + 1, np.int32)
        np.add.at(inside, words.bounds[row], 1)
        np.add.at(inside, words.bounds[row + 1] - self.min_words + 1, -1)
        keys = keys[np.cumsum(inside[:-1]) > 0]
        return pa.table({"row": row, "runs": packed(keys, counts[row] - self.min_words + 1)})

    def resolve(self, notes: Notes) -> pa.Table:
        return resolve(self, notes)

    def apply(self, batch: pa.RecordBatch, decisions: pa.Table) -> Verdicts:
        if not decisions.num_rows:
            return Verdicts.keep(batch)
        words, rows = words_of(batch.column("text")), decisions["row"].to_numpy()
        starts, ends = word_bytes(words, rows, decisions["start"].to_numpy(), decisions["end"].to_numpy())
        reasons = np.full(batch.num_rows, None, object)
        reasons[rows[::-1]] = [f"passage of {id}" for id in decisions["of"].to_pylist()[::-1]]
        values = np.bincount(rows, (decisions["end"].to_numpy() - decisions["start"].to_numpy()).astype(float), minlength=batch.num_rows)
        verdicts = cut_verdicts(
            batch, starts, ends, pa.array(reasons, pa.string()), "nothing but passages that came before", pa.array(values, mask=values == 0),
        )  # fmt: skip
        return replace(verdicts, threshold=float(self.min_words))


def word_bytes(words: Words, rows: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where words `start` to before `end` of rows lie among all bytes, with what stands behind them up to the next word or the text's end."""
    after = words.bounds[rows] + end
    last = after == words.bounds[rows + 1]
    ends = np.where(last, words.offsets[rows + 1], words.starts[np.minimum(after, len(words.starts) - 1)])
    return words.starts[words.bounds[rows] + start], ends


def resolve(filter: DuplicateSubstrings, notes: Notes, at_once: int = AT_ONCE) -> pa.Table:
    """`DuplicateSubstrings.resolve`, with at most so many keys in memory at once."""
    n = filter.min_words
    rows, lengths = [np.empty(0, np.int64)], [np.empty(0, np.int64)]

    def keys() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        base = 0
        for table in notes.tables(["row", "runs"]):
            rows.append(table["row"].to_numpy())
            for chunk in table["runs"].chunks:
                values, runs = unpacked(chunk, U64)
                lengths.append(runs + n - 1)
                gaps = np.repeat(np.arange(len(runs)) * (n - 1), runs)  # words in which no run begins
                yield values, base + np.arange(len(values)) + gaps
                base += int(lengths[-1].sum())

    repeats = Repeats(keys(), notes.scratch, at_once)
    row, ends = np.concatenate(rows), np.cumsum(np.concatenate(lengths))
    begins = ends - np.concatenate(lengths)
    if not len(ends):
        return pa.table({name: np.empty(0, np.int64) for name in ("row", "start", "end", "of")})
    known = int(begins[np.searchsorted(row, notes.first)]) if (row >= notes.first).any() else int(ends[-1])
    with tempfile.TemporaryFile(dir=notes.scratch) as file:
        file.truncate(int(ends[-1]))
        repeated = np.memmap(file, np.bool_, "r+")  # whether a run begins at a word that came before
        for places, starts in repeats:
            first = np.repeat(places[starts[:-1]], np.diff(starts))
            repeated[places[(places >= first + n) & (places >= known)]] = True
        found = np.flatnonzero(repeated)
        del repeated
    whose = np.searchsorted(ends, found, "right")
    new = np.concatenate([[True], (np.diff(found) > n) | (np.diff(whose) > 0)])[: len(found)]
    start = found[new]
    end = found[np.concatenate([new[1:], [True]])[: len(found)]] + n
    origin = np.zeros(len(start), np.int64)
    for places, starts in repeats:
        first = np.repeat(places[starts[:-1]], np.diff(starts))
        at = np.minimum(np.searchsorted(start, places), max(0, len(start) - 1))
        hit = start[at] == places if len(start) else np.zeros(len(places), bool)
        origin[at[hit]] = first[hit]
    mine = whose[new]
    return pa.table({
        "row": row[mine], "start": start - begins[mine], "end": end - begins[mine], "of": row[np.searchsorted(ends, origin, "right")],
    })  # fmt: skip
