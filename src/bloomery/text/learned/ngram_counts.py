"""From texts to an `NgramModel`: counting on the disk, and modified Kneser–Ney smoothing, a slice of the tables at a time.

Each table of sequences is sorted by key: the row of all words but the last in the table of the order before, times the number of ids, plus the
id of the last word. So the sequences that go on from one context lie together, and so do those that begin with <s>.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bloomery.store.files import write_json
from bloomery.text.learned.arrays import write_array
from bloomery.text.learned.features import Words
from bloomery.text.learned.ngram import END, FIRST_WORD, INDEX, START, find, framed
from bloomery.text.learned.runs import Runs

CHUNK_WORDS = 1 << 20  # counted at once
SLICE_ROWS = 1 << 20  # smoothed at once
FALLBACK = (0.5, 1.0, 1.5)  # discounts where there are too few sequences to estimate them


class Table(NamedTuple):
    """The sequences of one order, before anything is pruned; mapped files."""

    keys: np.ndarray
    counts: np.ndarray
    suffixes: np.ndarray  # rows, in the table of the order before, of all words but the first


def count_words(texts: Iterable[Words], scratch: Path, max_words: int, min_count: int) -> tuple[np.ndarray, int, int]:
    """Writes the words of all texts to `scratch`, each text between START and END, and chooses the vocabulary.

    Returns:
        The hashes of the known words, ascending; how many kinds of words are not known; how many words were read.
    """
    runs, read = Runs(scratch / "words"), 0
    with open(scratch / "hashes.bin", "wb") as file:
        for some in texts:
            lengths = np.diff(some.offsets)
            filled = Words(some.hashes, np.concatenate([[0], np.cumsum(lengths[lengths > 0])]))
            framed(filled, filled.hashes).tofile(file)
            runs.add(filled.hashes, np.zeros(len(filled.hashes), np.int64))
            read += len(filled.hashes)
    kinds, keys, counts = 0, [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for block in runs.merged():
        kinds += len(block.keys)
        often = block.counts >= min_count
        keys.append(block.keys[often])
        counts.append(block.counts[often])
    known, count = np.concatenate(keys), np.concatenate(counts)
    known = np.sort(known[np.lexsort((known, -count))[:max_words]])
    return known, kinds - len(known), read


def count_sequences(scratch: Path, vocabulary: np.ndarray, order: int, progress: Callable[[str], None]) -> tuple[np.ndarray, list[Table]]:
    """The counts of the ids themselves, and of the sequences of each order from 2 on."""
    size = FIRST_WORD + len(vocabulary)
    hashes = _map(scratch / "hashes.bin", np.uint64)
    ids = _new(scratch / "ids.bin", np.int64, len(hashes))
    counts = np.zeros(size, np.int64)
    for a, b in _chunks(len(hashes), CHUNK_WORDS):
        found = find(vocabulary, hashes[a:b])
        frame = hashes[a:b] <= END
        ids[a:b] = np.where(frame, hashes[a:b].astype(np.int64), np.where(found < 0, 0, found + FIRST_WORD))
        counts += np.bincount(ids[a:b], minlength=size)
    rows, tables = ids, []
    for n in range(2, order + 1):
        runs = Runs(scratch / f"sequences-{n}")
        for a, b in _chunks(len(ids), CHUNK_WORDS):
            keys, places = _keys(ids, rows, a, b, size)
            runs.add(keys, rows[places])
            progress(f"sequences of {n} words: {b:,} of {len(ids):,} read")
        paths = [scratch / f"{name}-{n}.bin" for name in Table._fields]
        with ExitStack() as stack:
            files = [stack.enter_context(open(path, "wb")) for path in paths]
            for block in runs.merged():
                for column, file in zip(block, files, strict=True):
                    column.tofile(file)
        table = Table(*map(_map, paths, (np.uint64, np.int64, np.int64)))
        tables.append(table)
        if n < order:
            longer = _new(scratch / f"rows-{n}.bin", np.int64, len(ids))
            for a, b in _chunks(len(ids), CHUNK_WORDS):
                keys, places = _keys(ids, rows, a, b, size)
                longer[a:b] = -1
                longer[places] = np.searchsorted(table.keys, keys)
            rows = longer
    return counts, tables


def write_model(
    folder: Path, scratch: Path, vocabulary: np.ndarray, unknown_kinds: int, counts: np.ndarray, tables: Sequence[Table],
    min_counts: Sequence[int],
) -> list[dict[str, Any]]:
    """Smooths the counts and writes the model's files.

        a(u w) = count of u w for the longest sequences and those that begin with <s>, else how many different words were seen before u w
        p(w | u) = (a(u w) − D(a(u w))) / a(u ·) + backoff(u) · p(w | u without its first word)
        backoff(u) = 1 − Σ of the first terms over the w that are kept

    with discounts D(1), D(2), D(3 and more) estimated for each order from how many sequences have a = 1, 2, 3, 4. Below the single words lies
    the uniform distribution over all ids but <s>. What is pruned gives its share to the backoff, so that Σ p(w | u) stays 1.

    Args:
        folder: where the model goes.
        scratch: for arrays as long as the tables.
        vocabulary, unknown_kinds: of `count_words`.
        counts, tables: of `count_sequences`.
        min_counts: for each order from 2, the count below which a sequence is forgotten; not falling.

    Returns:
        For each order: how many sequences there were, how many are kept, and the discounts.
    """
    size, order = len(counts), len(tables) + 1
    summary = []
    adjusted = _adjusted(scratch, 1, counts, (START, START + 1), tables[0])
    adjusted[START] = 0
    discounts = discounts_of(adjusted)
    total = int(adjusted.sum())
    left = float(_discount(adjusted, discounts).sum()) / total
    probabilities = ((adjusted - _discount(adjusted, discounts)) / total + left / (size - 1)).astype(np.float32)
    probabilities[START] = 0
    kept = np.ones(size, bool)
    write_array(folder / "vocabulary.npy", vocabulary)
    write_array(folder / "probabilities-1.npy", probabilities)
    summary.append({"sequences": size, "kept": size, "discounts": list(discounts)})
    begin = (START, START + 1)  # the rows that begin with <s>
    for n, table in enumerate(tables, 2):
        begin = tuple(int(np.searchsorted(table.keys, np.uint64(row * size))) for row in begin)
        adjusted = table.counts if n == order else _adjusted(scratch, n, table.counts, begin, tables[n - 1])
        discounts = discounts_of(adjusted)
        rank = np.cumsum(kept) - 1  # old row → row among the kept
        backoffs = np.ones(len(kept), np.float32)
        longer = _new(scratch / f"probabilities-{n}.bin", np.float32, len(table.keys))
        keep = np.zeros(len(table.keys), bool)
        keys = _new(scratch / f"kept-{n}.bin", np.uint64, len(table.keys))
        for a, b in _contexts(table.keys, size):
            prefix = (table.keys[a:b] // np.uint64(size)).astype(np.int64)
            first = np.flatnonzero(np.concatenate([[True], prefix[1:] != prefix[:-1]]))
            group = np.cumsum(np.concatenate([[0], prefix[1:] != prefix[:-1]]))
            often = table.counts[a:b] >= min_counts[n - 2]
            given = np.where(often, adjusted[a:b] - _discount(adjusted[a:b], discounts), 0)
            totals = np.add.reduceat(adjusted[a:b], first)
            left = 1 - np.add.reduceat(given, first) / totals
            backoffs[prefix[first]] = left
            longer[a:b] = given / totals[group] + left[group] * probabilities[table.suffixes[a:b]]
            keep[a:b] = often
            keys[a:b] = rank[prefix].astype(np.uint64) * np.uint64(size) + table.keys[a:b] % np.uint64(size)
        write_array(folder / f"backoffs-{n - 1}.npy", backoffs[kept])
        write_array(folder / f"keys-{n}.npy", keys[keep])
        write_array(folder / f"probabilities-{n}.npy", longer[keep])
        summary.append({"sequences": len(keep), "kept": int(keep.sum()), "discounts": list(discounts)})
        probabilities, kept = longer, keep
    write_json(folder / INDEX, {"order": order, "words": len(vocabulary), "unknown_kinds": unknown_kinds})
    return summary


def discounts_of(counts: np.ndarray) -> tuple[float, float, float]:
    """D(1), D(2), D(3+) = k − (k + 1) · Y · nₖ₊₁ / nₖ, with Y = n₁ / (n₁ + 2 n₂); fixed ones where the counts do not allow an estimate."""
    n = [0] + [int(np.count_nonzero(counts == k)) for k in (1, 2, 3, 4)]
    if not all(n[1:]):
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    one, two, three = (k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
    return (one, two, three) if 0 <= one <= 1 and 0 <= two <= 2 and 0 <= three <= 3 else FALLBACK


def _discount(counts: np.ndarray, discounts: tuple[float, float, float]) -> np.ndarray:
    return np.array([0.0, *discounts])[np.minimum(counts, 3)]


def _adjusted(scratch: Path, n: int, counts: np.ndarray, begin: tuple[int, ...], longer: Table) -> np.ndarray:
    """For each sequence: how many different words were seen before it; where it begins with <s>, how often it was seen."""
    adjusted = _new(scratch / f"adjusted-{n}.bin", np.int64, len(counts))
    for a, b in _chunks(len(longer.keys), SLICE_ROWS):
        np.add.at(adjusted, longer.suffixes[a:b], 1)
    adjusted[slice(*begin)] = counts[slice(*begin)]
    return adjusted


def _keys(ids: np.ndarray, rows: np.ndarray, a: int, b: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The keys of the sequences, one word longer than those of `rows`, that end in places a to b; and those places."""
    before = rows[max(a - 1, 0) : b - 1]
    places = np.arange(max(a, 1), b)
    fits = (before >= 0) & (ids[places] != START)
    places = places[fits]
    return before[fits].astype(np.uint64) * np.uint64(size) + ids[places].astype(np.uint64), places


def _contexts(keys: np.ndarray, size: int) -> Iterable[tuple[int, int]]:
    """Slices of about `SLICE_ROWS` that part no context."""
    cuts = [0]
    while cuts[-1] < len(keys):
        last = keys[min(cuts[-1] + SLICE_ROWS, len(keys)) - 1] // np.uint64(size)
        cuts.append(int(np.searchsorted(keys, (last + np.uint64(1)) * np.uint64(size))))
    return pairwise(cuts)


def _chunks(length: int, size: int) -> Iterable[tuple[int, int]]:
    return ((a, min(a + size, length)) for a in range(0, length, size))


def _new(path: Path, kind: type, length: int) -> np.ndarray:
    return np.memmap(path, kind, "w+", shape=(length,)) if length else np.empty(0, kind)


def _map(path: Path, kind: type) -> np.ndarray:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
