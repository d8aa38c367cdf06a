"""`GopherRepetition`: does it say the same over and over?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.words import Lines, Words, chars, judged, mixed, share

Bounds = tuple[tuple[int, float], ...]


class GopherRepetition(Filter):
    """Drops documents in which too large a share is lines, paragraphs or word n-grams that were there before.

    `top_n_grams` looks at the n-gram that occurs most often (the first of them, where several do): its length, with blanks, times how often
    it occurs. `repeated_n_grams` reads the document once: an n-gram that has been read before counts with its letters, and the reading goes
    on behind it. Both, like the characters of lines and paragraphs, are shares of the whole text.

    Source: Rae et al. (2021), arXiv 2112.11446, table A1. Departures: lines and paragraphs that are blank do not count.
    """

    max_repeated_lines: float | None = 0.3
    """Share of lines that their document has had before."""
    max_repeated_line_chars: float | None = 0.2
    """Share of characters in such lines."""
    max_repeated_paragraphs: float | None = 0.3
    """Share of paragraphs, which blank lines part, that their document has had before."""
    max_repeated_paragraph_chars: float | None = 0.2
    """Share of characters in such paragraphs."""
    max_top_n_grams: Bounds = ((2, 0.2), (3, 0.18), (4, 0.16))
    """For some n, the largest share of characters in the most frequent n-gram."""
    max_repeated_n_grams: Bounds = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1))
    """For some n, the largest share of characters in n-grams that were read before."""

    def check(self) -> None:
        for field in ("max_top_n_grams", "max_repeated_n_grams"):
            sizes = [n for n, _ in getattr(self, field)]
            if len(set(sizes)) < len(sizes) or min(sizes, default=2) < 2:
                raise self.refuse(field, "must give each n once, from 2 upwards")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        text = judged(batch.column("text"))
        size = chars(text)
        measures = []
        for name, between, high, high_chars in (
            ("paragraph", "\n\n", self.max_repeated_paragraphs, self.max_repeated_paragraph_chars),
            ("line", "\n", self.max_repeated_lines, self.max_repeated_line_chars),
        ):
            lines = Lines.of(text, between)
            again = lines.repeated()
            again_chars = share(lines.total(again * chars(lines.texts)), size)
            measures.append(Measure(name=f"repeated_{name}s", values=share(lines.total(again), lines.counts), high=high))
            measures.append(Measure(name=f"repeated_{name}_chars", values=again_chars, high=high_chars))

        words = Words.of(text)
        top, repeated = dict(self.max_top_n_grams), dict(self.max_repeated_n_grams)
        for grams in n_grams(words, max((*top, *repeated), default=1)):
            n = grams.n
            if n in top:
                measures.append(Measure(name=f"top_{n}_gram", values=share(most_frequent(words, grams), size), high=top[n]))
            if n in repeated:
                measures.append(Measure(name=f"repeated_{n}_grams", values=share(read_before(words, grams), size), high=repeated[n]))
        return Verdicts.by_measures(batch, measures)


class Grams(NamedTuple):
    """The n-grams that occur more than once in their text."""

    n: int
    at: np.ndarray
    """Which words they begin with, in order."""
    group: np.ndarray
    """A number that is the same for the same n-gram of the same text."""


def n_grams(words: Words, up_to: int) -> Iterator[Grams]:
    """The n-grams that occur more than once, for each n from 2 on.

    An n-gram occurs again only where its beginning and its end, one word shorter, do; so each n looks at few of the places of the one before.
    """
    last = np.repeat(words.offsets[1:], words.counts)  # for each word, where its text ends
    row = words.row
    at, hashes = np.arange(len(row)), words.hash
    for n in range(2, up_to + 1):
        fits = at + n <= last[at]
        if n > 2:
            nxt = np.searchsorted(at, at + 1)
            fits &= np.append(at, -1)[nxt] == at + 1
        at, hashes = at[fits], mixed(hashes[fits] * np.uint64(3) + words.hash[at[fits] + n - 1])
        order = np.argsort(hashes, kind="stable")  # stable: within one hash the texts stay apart
        new = np.ones(len(order), bool)
        ordered, whose = hashes[order], row[at[order]]
        new[1:] = (ordered[1:] != ordered[:-1]) | (whose[1:] != whose[:-1])
        group = np.empty(len(order), np.int64)
        group[order] = np.cumsum(new) - 1
        again = np.bincount(group, minlength=1)[group] > 1
        at, hashes = at[again], hashes[again]
        yield Grams(n, at, group[again])


def most_frequent(words: Words, grams: Grams) -> np.ndarray:
    """For each text, the characters in its most frequent n-gram, blanks between the words included."""
    before = np.concatenate([[0], np.cumsum(words.chars, dtype=np.int64)])
    first = words.offsets[:-1]
    fits = words.counts >= grams.n  # where nothing occurs twice, the first n-gram is the most frequent
    result = np.zeros(len(first), np.int64)
    result[fits] = (before[first[fits] + grams.n] - before[first[fits]]) + grams.n - 1
    if len(grams.at):
        _, earliest, count = np.unique(grams.group, return_index=True, return_counts=True)
        at = grams.at[earliest]
        row = np.searchsorted(words.offsets, at, "right") - 1
        order = np.lexsort((at, -count, row))
        best = order[np.unique(row[order], return_index=True)[1]]
        result[row[best]] = (before[at[best] + grams.n] - before[at[best]] + grams.n - 1) * count[best]
    return result


def read_before(words: Words, grams: Grams) -> np.ndarray:
    """For each text, the characters in n-grams that a reader has met before, if he goes on behind each one that he recognises."""
    seen: set[int] = set()
    again: list[int] = []
    next_at = 0
    for at, group in zip(grams.at.tolist(), grams.group.tolist(), strict=True):
        if at >= next_at:
            if group in seen:
                again.append(at)
                next_at = at + grams.n
            seen.add(group)
    before = np.concatenate([[0], np.cumsum(words.chars, dtype=np.int64)])
    starts = np.array(again, np.int64)
    row = np.searchsorted(words.offsets, starts, "right") - 1
    return np.bincount(row, weights=before[starts + grams.n] - before[starts], minlength=len(words.offsets) - 1)
