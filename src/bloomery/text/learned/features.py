"""Texts as numbers: words, pairs of words and character n-grams as 64-bit hashes, and bags of them as sparse rows.

A word is a run of letters, digits and marks, in lower case; a symbol is a word by itself, and so is each character of the scripts that put
no spaces between words. What counts as what is a table of code points kept here, so that it is the same under every version of Unicode.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PIECE_CHARS = 1 << 19  # characters hashed at once: some 50 MB of work space
PORTION_BYTES = 2 << 20  # text turned into bags at once: some 150 MB of work space
CODES = 0x110000
SPACE, SYMBOL, ALONE, LETTER = 0, 1, 2, 3
BOUNDARY = np.uint64(0x9E3779B97F4A7C15)  # stands for the ends of a word in character n-grams
STEP = np.uint64(0xD1342543DE82EF95)  # odd: the base of the polynomials
MAX_NGRAM = 8

SYMBOLS = (
    (0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xA9), (0xAB, 0xAC), (0xAE, 0xB4), (0xB6, 0xB9), (0xBB, 0xBF), (0xD7, 0xD7),
    (0xF7, 0xF7), (0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20CF), (0x2100, 0x2BFF), (0x2E00, 0x2E7F), (0x3001, 0x3004), (0x3008, 0x3020),
    (0x3030, 0x3030), (0xE000, 0xF8FF), (0xFE10, 0xFE19), (0xFE30, 0xFE6F), (0xFF01, 0xFF0F), (0xFF1A, 0xFF20), (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF65), (0xFFE0, 0xFFFD), (0x1F000, 0x1FAFF),
)  # fmt: skip
SPACES = (
    (0x00, 0x20), (0x7F, 0xA0), (0xAD, 0xAD), (0x1680, 0x1680), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x206F), (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
)  # fmt: skip
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x302F), (0x3031, 0x33FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF),
)  # fmt: skip


class Words(NamedTuple):
    """The words of some texts, end to end.

    Attributes:
        hashes: (words,) uint64.
        offsets: (texts + 1,) int64; the words of text i are hashes[offsets[i] : offsets[i + 1]].
    """

    hashes: np.ndarray
    offsets: np.ndarray

    def rows(self) -> np.ndarray:
        """(words,) int64: the text that each word is of."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class Bags(NamedTuple):
    """Sparse rows of counts: row i has the columns indices[offsets[i] : offsets[i + 1]], ascending, with those counts (float32)."""

    indices: np.ndarray
    counts: np.ndarray
    offsets: np.ndarray

    def rows(self) -> np.ndarray:
        """(entries,) int64: the row that each entry is of."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def take(self, rows: np.ndarray) -> Bags:
        """Some of the rows."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Bags(self.indices[at], self.counts[at], offsets)

    def unit(self) -> Bags:
        """The rows scaled to length 1; empty ones stay empty."""
        rows, values = self.rows(), self.counts.astype(np.float64)
        lengths = np.sqrt(np.bincount(rows, values**2, len(self.offsets) - 1))
        return self._replace(counts=(values / lengths[rows]).astype(np.float32))


def mixed(values: np.ndarray) -> np.ndarray:
    """A bijection of uint64 whose every output bit depends on every input bit. Source: Steele et al. (2014), SplitMix's finaliser."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def words(texts: pa.Array, *, digits: bool = True) -> Words:
    """The words of some texts.

    Args:
        texts: strings; null is no words.
        digits: False takes every digit for a zero, so that numbers differ by their lengths only.
    """
    hashes, lengths = [np.empty(0, np.uint64)], np.zeros(len(texts), np.int64)
    for row, codes, starts, ends in _split(texts, digits):
        found = _hashes(codes, starts, ends)
        hashes.append(found)
        np.add.at(lengths, row, 1)
    return Words(np.concatenate(hashes), np.concatenate([[0], np.cumsum(lengths)]))


def bags(texts: pa.Array, buckets: int, *, word_ngrams: int = 1, char_ngrams: tuple[int, int] | None = None) -> Bags:
    """How often each hashed feature occurs in each text.

    Args:
        texts: strings; null is no features.
        buckets: the columns; features whose hashes agree modulo this are one.
        word_ngrams: 1 takes words, 2 pairs of neighbours too, and so on.
        char_ngrams: shortest and longest character n-grams within words, whose ends count as a character each; None takes none.
    """
    keys = [np.empty(0, np.uint64)]
    size = np.uint64(buckets)
    for row, codes, starts, ends in _split(texts, True):
        base = row.astype(np.uint64) * size
        found = _hashes(codes, starts, ends)
        grams = found
        keys.append(base + grams % size)
        for n in range(2, word_ngrams + 1):
            grams = mixed(grams[:-1] * STEP + found[n - 1 :])
            within = row[: len(grams)] == row[n - 1 :]
            keys.append((base[: len(grams)] + grams % size)[within])
        if char_ngrams:
            keys += [base[of] + grams % size for of, grams in _char_ngrams(codes, starts, ends, *char_ngrams)]
    unique, counts = np.unique(np.concatenate(keys), return_counts=True)
    rows = (unique // size).astype(np.int64)
    offsets = np.searchsorted(rows, np.arange(len(texts) + 1))
    return Bags((unique % size).astype(np.int64), counts.astype(np.float32), offsets)


def portions(texts: pa.Array) -> Iterator[pa.Array]:
    """The texts in slices of little memory, each of one text at least."""
    ends = np.cumsum(pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64))
    start = 0
    while start < len(texts):
        room = (ends[start - 1] if start else 0) + PORTION_BYTES
        end = max(int(np.searchsorted(ends, room, side="right")), start + 1)
        yield texts[start:end]
        start = end


def _split(texts: pa.Array, digits: bool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The words of some texts, piece by piece: (words,) the row of each; (chars,) folded code points; (words,) where each starts and ends."""
    table = _folding(digits)
    for rows, strings in _pieces(texts):
        lengths = np.fromiter(map(len, strings), np.int64, len(strings)) + 1
        folded = table[np.frombuffer(("\n".join(strings) + "\n").encode("utf-32-le"), np.uint32)]
        kinds = folded >> 24
        before = np.concatenate([[SPACE], kinds[:-1]])
        after = np.concatenate([kinds[1:], [SPACE]])
        starts = np.flatnonzero((kinds != SPACE) & ((kinds != LETTER) | (before != LETTER)))
        ends = np.flatnonzero((kinds != SPACE) & ((kinds != LETTER) | (after != LETTER))) + 1
        row = np.asarray(rows, np.int64)[np.searchsorted(np.cumsum(lengths), starts, side="right")]
        yield row, folded & 0xFFFFFF, starts, ends


def _pieces(texts: pa.Array) -> Iterator[tuple[list[int], list[str]]]:
    """Texts gathered, and long ones cut up between words, so that little is in work at once."""
    rows: list[int] = []
    strings: list[str] = []
    waiting = 0
    for row in range(len(texts)):
        text = texts[row].as_py() or ""
        start = 0
        while len(text) - start > PIECE_CHARS:
            end = start + PIECE_CHARS
            cut = max(text.rfind(" ", start, end), text.rfind("\n", start, end)) + 1 or end
            yield [row], [text[start:cut]]
            start = cut
        rows.append(row)
        strings.append(text[start:] if start else text)
        waiting += len(strings[-1]) + 1
        if waiting > PIECE_CHARS:
            yield rows, strings
            rows, strings, waiting = [], [], 0
    if strings:
        yield rows, strings


def _hashes(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Σ hash(code) · STEPⁱ over the characters of each word, i from the word's beginning and modulo 64, mixed."""
    if not len(starts):
        return np.empty(0, np.uint64)
    lengths = ends - starts
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    place = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    values = _code_hashes()[codes[np.repeat(starts, lengths) + place]] * _powers()[place & 63]
    return mixed(np.add.reduceat(values, first))


def _char_ngrams(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray, low: int, high: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each length: (n-grams,) the word of each, and its hash."""
    if not len(starts):
        return
    lengths = ends - starts + 2
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    word = np.repeat(np.arange(len(starts)), lengths)
    place = np.arange(len(word)) - first[word]
    values = np.full(len(word), BOUNDARY)
    inner = (place > 0) & (place < lengths[word] - 1)
    values[inner] = _code_hashes()[codes[(starts[word] + place - 1)[inner]]]
    room = lengths[word] - place  # characters from here to the word's end
    total = np.zeros(len(word), np.uint64)
    for n in range(1, high + 1):
        total[: len(word) - n + 1] += values[n - 1 :] * _powers()[n]
        if n >= low:
            within = room >= n
            yield word[within], mixed(total[within] ^ np.uint64(n))


@lru_cache(maxsize=2)
def _folding(digits: bool) -> np.ndarray:
    """For each code point: its lower case, and in the upper byte its kind."""
    codes = np.arange(CODES, dtype=np.uint32)
    for code in range(0x1E944):  # cased scripts end there
        lower = chr(code).lower()
        if len(lower) == 1:
            codes[code] = ord(lower)
    if not digits:
        codes[0x30:0x3A] = 0x30
    kinds = np.full(CODES, LETTER, np.uint32)
    for kind, ranges in ((SYMBOL, SYMBOLS), (SPACE, SPACES), (ALONE, UNSPACED)):
        for low, high in ranges:
            kinds[low : high + 1] = kind
    return codes | kinds << np.uint32(24)


@lru_cache(maxsize=1)
def _code_hashes() -> np.ndarray:
    return mixed(np.arange(1, CODES + 1, dtype=np.uint64) * BOUNDARY)


@lru_cache(maxsize=1)
def _powers() -> np.ndarray:
    return np.cumprod(np.full(64, STEP))
