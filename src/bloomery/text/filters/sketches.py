"""Sets of shingles in little room: sketches to find similar ones by, and samples to compare any two."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa

from bloomery.text.filters.filter import Notes
from bloomery.text.filters.repeats import unpacked
from bloomery.text.shingles import CHUNK, GOLDEN, U64, mixed, ranges

SAMPLE = 1024
"""Of a text with more shingles than this, about so many are compared, chosen by their hashes: similarities err by 0.016 at most (one sigma)."""
ROUNDS = 4  # in which shingles fall into random cells of a sketch, before those still empty are filled one by one


def sketches(hashes: np.ndarray, bounds: np.ndarray, size: int) -> np.ndarray:
    """For each set of hashes, `size` values, of which two sets share as large a part, on average, as they have in common (Jaccard).

    Args:
        hashes: uint64, the members of all sets, repetitions or not.
        bounds: those of set i are `hashes[bounds[i]:bounds[i + 1]]`; no set is empty.
        size: values per set.

    Returns:
        uint64, of shape (sets, size).
    """
    sets = len(bounds) - 1
    table = np.full(sets * size, np.iinfo(U64).max, U64)
    low32, cells = U64(0xFFFFFFFF), U64(size)
    salt = np.arange(1, ROUNDS + size + 1, dtype=U64) * GOLDEN
    lacking = np.arange(sets)
    for number in range(ROUNDS):
        for members, owner in _members(hashes, bounds, lacking):
            value = mixed(members + salt[number])
            cell = (value >> U64(32)) * cells >> U64(32)
            np.minimum.at(table, owner * size + cell.view(np.int64), U64(number << 32) | value & low32)
        lacking = lacking[(table.reshape(sets, size)[lacking] == np.iinfo(U64).max).any(axis=1)]
    for cell in range(size):
        empty = lacking[table.reshape(sets, size)[lacking, cell] == np.iinfo(U64).max]
        for members, owner in _members(hashes, bounds, empty):
            value = mixed(members + salt[ROUNDS + cell])
            np.minimum.at(table, owner * size + cell, U64(ROUNDS << 32) | value & low32)
    return table.reshape(sets, size)


def _members(hashes: np.ndarray, bounds: np.ndarray, sets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The members of some sets, a chunk at a time, and whose they are."""
    lengths = (bounds[1:] - bounds[:-1])[sets]
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    for low in range(0, total, CHUNK):
        high = min(low + CHUNK, total)
        first, last = np.searchsorted(ends, (low, high - 1), "right").tolist()
        own_ends = np.minimum(ends[first : last + 1], high)
        own = np.diff(own_ends, prepend=low)
        begins = np.maximum(ends[first : last + 1] - lengths[first : last + 1], low)
        at = bounds[sets[first : last + 1]] + begins - (ends[first : last + 1] - lengths[first : last + 1])
        whole = at[-1] + own[-1] - at[0] == high - low
        yield hashes[at[0] : at[0] + high - low] if whole else hashes[ranges(at, own)], np.repeat(sets[first : last + 1], own)


def band_keys(table: np.ndarray, bands: int, rows: int, arrangements: int) -> np.ndarray:
    """A key for each band of each sketch, unlike those of the other bands: uint64, of shape (sketches, arrangements * bands)."""
    orders = arranged(bands * rows, arrangements)
    keys = np.zeros((len(table), arrangements * bands), U64)
    for a, order in enumerate(orders):
        for row in range(rows):
            mine = keys[:, a * bands : (a + 1) * bands]
            mine[:] = mixed(mine * GOLDEN + table[:, order[row::rows]])
    return mixed(keys + np.arange(arrangements * bands, dtype=U64) * GOLDEN)


@lru_cache(maxsize=16)
def arranged(size: int, arrangements: int) -> list[np.ndarray]:
    """Orders of `size` things: first as they are, then shuffled, the same at any time and place."""
    numbers = np.arange(size, dtype=U64)
    return [np.argsort(mixed(numbers + U64(1 + a) * mixed(GOLDEN + numbers))) if a else np.arange(size) for a in range(arrangements)]


def samples(hashes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each set of hashes, the 32-bit ones below a bound that leaves about `SAMPLE` of them, or all; and how many of each set those are."""
    small = (hashes >> U64(32)).astype(np.uint32)
    if not (counts > SAMPLE).any():
        return small, counts
    kept = small < np.repeat(bound(counts), counts)
    return small[kept], np.diff(np.concatenate([[0], np.cumsum(kept)])[np.cumsum(counts)], prepend=0)


def bound(counts: np.ndarray) -> np.ndarray:
    """The hashes of a set of so many, repetitions included, are in its sample if they are below this."""
    return (2**32 * np.minimum(1, SAMPLE / counts)).astype(np.int64)


class Samples:
    """The samples of some documents' shingles, on disk, for comparing any two."""

    def __init__(self, notes: Notes, wanted: np.ndarray, at_once: int) -> None:
        self._slot = np.cumsum(wanted) - 1
        self._at_once = at_once
        counts, lengths = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        self._file = tempfile.TemporaryFile(dir=notes.scratch)  # noqa: SIM115 (it lives as long as this)
        for table in notes.tables(["row", "shingles", "sample"]):
            mine = table.filter(pa.array(wanted[table["row"].to_numpy()]))
            counts.append(mine["shingles"].to_numpy())
            for chunk in mine["sample"].chunks:
                values, sizes = unpacked(chunk, np.uint32)
                self._file.write(values.data)
                lengths.append(sizes)
        self.counts = np.concatenate(counts)
        """Shingles of each of the documents, repetitions included."""
        self._lengths = np.concatenate(lengths)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._file.flush()
        self._values = np.memmap(self._file, np.uint32, "r") if self._lengths.sum() else np.empty(0, np.uint32)

    def jaccard(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The similarity of each two documents: of their shingles, where both have few, or of samples chosen alike."""
        a, b = self._slot[some], self._slot[others]
        size = np.cumsum(self._lengths[a] + self._lengths[b])
        cuts = np.searchsorted(size, np.arange(self._at_once, size[-1], self._at_once)).tolist() if len(size) else []
        return np.concatenate([self._compared(x, y) for x, y in zip(np.split(a, cuts), np.split(b, cuts), strict=True)])

    def _compared(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        below = np.minimum(bound(self.counts[a]), bound(self.counts[b])) if len(a) else np.empty(0, np.int64)
        one, other = self._sets(a, below), self._sets(b, below)
        both = np.sort(np.concatenate([one, other]), kind="stable")  # which merges what is sorted already
        common = both[1:][both[1:] == both[:-1]] >> U64(32)
        sizes = np.bincount((both >> U64(32)).view(np.int64), minlength=len(a))
        shared = np.bincount(common.view(np.int64), minlength=len(a))
        return shared / np.maximum(sizes - shared, 1)

    def _sets(self, slots: np.ndarray, below: np.ndarray) -> np.ndarray:
        """The members of each set that are below its bound, each once, with the number of the set above them."""
        lengths = self._lengths[slots]
        values = self._values[ranges(self._starts[slots], lengths)]
        numbered = np.repeat(np.arange(len(slots), dtype=U64) << U64(32), lengths) | values
        numbered = np.sort(numbered[values < np.repeat(below, lengths)])
        return numbered[np.concatenate([[True], numbered[1:] != numbered[:-1]])] if len(numbered) else numbered
