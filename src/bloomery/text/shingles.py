"""Words as numbers: a batch of texts becomes one array of word hashes, straight from Arrow's buffers, and n words in a row one hash of those.

What counts as a word: a run of letters, digits and marks, in lower case; punctuation, symbols and white space part words, and an ideograph or
kana is a word by itself. Nothing is decoded: bytes are folded by tables, and all else happens to thousands of words at a time.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

WORD_BYTES = 64
"""Longer words, such as base64 or a script without blanks, are cut into words of this many bytes."""
CHUNK = 1 << 16  # words at a time: what is worked on stays in the processor's cache
U64 = np.uint64
GOLDEN = U64(0x9E3779B97F4A7C15)


class Words(NamedTuple):
    """The words of a batch of texts.

    Attributes:
        hashes: uint64, one for each word.
        bounds: int64; the words of row i are those from `bounds[i]` to before `bounds[i + 1]`.
        starts, ends: int64; where in `data` each word begins, and where it has ended.
        data: uint8, the texts in UTF-8, one after the other.
        offsets: int64; the text of row i lies from `offsets[i]` to before `offsets[i + 1]`.
    """

    hashes: np.ndarray
    bounds: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    data: np.ndarray
    offsets: np.ndarray


def words_of(text: pa.StringArray) -> Words:
    """The words of each text, which must not be null."""
    data, offsets = utf8(text)
    folded, alone = _fold(data)
    word = folded[: len(data)] != 0
    first = offsets[:-1][offsets[:-1] < offsets[1:]]
    starts_here = word.copy()
    starts_here[1:] &= ~word[:-1]
    starts_here[first] = word[first]
    if len(alone):
        starts_here[alone] = True
        after = alone + 3
        after = after[after < len(data)]
        starts_here[after] = word[after]
    ends_here = word
    ends_here[:-1] &= ~word[1:] | starts_here[1:]
    starts, ends = np.flatnonzero(starts_here), np.flatnonzero(ends_here) + 1
    del starts_here, ends_here, word
    starts, ends = _cut_long(starts, ends)
    return Words(_hashed(folded, starts, ends), np.searchsorted(starts, offsets), starts, ends, data, offsets)


def utf8(text: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts, one after the other, and where each begins (one offset more than texts)."""
    if not len(text):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, data = text.buffers()
    offsets = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1].astype(np.int64)
    held = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return held[offsets[0] : offsets[-1]], offsets - offsets[0]


def shingles(words: Words, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of each text's runs of `n` words, in order and with repetitions; of a text with fewer words, one hash of all of them.

    Returns:
        hashes: uint64.
        bounds: int64; those of row i are `hashes[bounds[i]:bounds[i + 1]]`. A text without words has none.
    """
    counts = np.diff(words.bounds)
    bounds = np.concatenate([[0], np.cumsum(np.maximum(counts - n + 1, counts > 0))])
    within = np.ones(len(words.hashes), bool)  # whether a run that begins here stays within its text
    for k in range(1, n):
        within[(words.bounds[1:] - k)[counts >= k]] = False
    runs = windows(words.hashes, n)
    whole = runs[within[: len(runs)]]
    few = (counts > 0) & (counts < n)
    if not few.any():
        return whole, bounds
    picked = np.empty(bounds[-1], U64)
    single = np.zeros(bounds[-1], bool)
    single[bounds[:-1][few]] = True
    picked[single] = whole_hashes(words, n)[few]
    picked[~single] = whole
    return picked, bounds


def windows(hashes: np.ndarray, n: int) -> np.ndarray:
    """A hash of each run of `n` words, texts run on; there are `n - 1` fewer than words."""
    runs = np.empty(max(0, len(hashes) - n + 1), U64)
    factors = _factors(n)
    for low in range(0, len(runs), CHUNK):
        high = min(low + CHUNK, len(runs))
        total = hashes[low:high] * factors[0]
        for k in range(1, n):
            total += hashes[low + k : high + k] * factors[k]
        runs[low:high] = mixed(total)
    return runs


def windows_at(hashes: np.ndarray, starts: np.ndarray, n: int) -> np.ndarray:
    """What `windows` says of the runs of `n` words that begin at some places."""
    return mixed(sum((hashes[starts + k] * factor for k, factor in enumerate(_factors(n))), np.zeros(len(starts), U64)))


def whole_hashes(words: Words, n: int) -> np.ndarray:
    """A hash of the first `n` words of each text, or of all its words where it has fewer; what `windows` says of the same words."""
    factors = _factors(n)
    starts, counts = words.bounds[:-1], np.diff(words.bounds)
    total = np.zeros(len(counts), U64)
    for k in range(n):
        has = counts > k
        total[has] += words.hashes[starts[has] + k] * factors[k]
    return mixed(total)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers from each start on, as many as its length says, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def mixed(values: np.ndarray) -> np.ndarray:
    """Each value's bits well mixed; a bijection. Source: Steele et al. (2014), doi:10.1145/2660193.2660195, as in SplitMix64."""
    values = values ^ (values >> U64(30))
    values *= U64(0xBF58476D1CE4E5B9)
    values ^= values >> U64(27)
    values *= U64(0x94D049BB133111EB)
    values ^= values >> U64(31)
    return values


@lru_cache(maxsize=64)
def _factors(n: int) -> np.ndarray:
    return mixed(np.arange(1, n + 1, dtype=U64) * GOLDEN) | U64(1)


def _hashed(folded: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    eight = np.ndarray((len(folded) - 7,), "<u8", folded, strides=(1,))  # at each byte, it and the seven after it
    masks = np.array([(1 << 8 * k) - 1 for k in range(9)], U64)
    hashes = np.empty(len(starts), U64)
    for low in range(0, len(starts), CHUNK):
        start, length = starts[low : low + CHUNK], ends[low : low + CHUNK] - starts[low : low + CHUNK]
        found = mixed(eight[start] & masks[np.minimum(length, 8)])
        longer = np.flatnonzero(length > 8)
        for k in range(8, WORD_BYTES, 8):
            if not len(longer):
                break
            rest = np.minimum(length[longer] - k, 8)
            found[longer] = mixed((found[longer] * GOLDEN) ^ (eight[start[longer] + k] & masks[rest]))
            longer = longer[length[longer] > k + 8]
        hashes[low : low + CHUNK] = found
    return hashes


def _cut_long(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pieces = -(-(ends - starts) // WORD_BYTES)
    if not (pieces > 1).any():
        return starts, ends
    cut = np.repeat(starts, pieces) + ranges(np.zeros_like(pieces), pieces) * WORD_BYTES
    return cut, np.minimum(cut + WORD_BYTES, np.repeat(ends, pieces))


def _fold(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes in lower case, 0 where no word is, with eight more zeros; and where characters stand that are words by themselves."""
    folded = np.frombuffer(bytearray(data.tobytes().translate(_ascii()) + bytes(8)), np.uint8)
    if not len(data) or data.max() < 0x80:
        return folded, np.empty(0, np.int64)
    lower, alone = _unicode()
    two = np.flatnonzero((data >= 0xC2) & (data < 0xE0))
    code = lower[(data[two].astype(np.int64) & 0x1F) << 6 | data[two + 1] & 0x3F]
    folded[two] = np.where(code, 0xC0 | code >> 6, 0)
    folded[two + 1] = np.where(code, 0x80 | code & 0x3F, 0)
    three = np.flatnonzero((data >= 0xE0) & (data < 0xF0))
    before = (data[three].astype(np.int64) & 0x0F) << 12 | (data[three + 1].astype(np.int64) & 0x3F) << 6 | data[three + 2] & 0x3F
    code = lower[before]
    folded[three] = np.where(code, 0xE0 | code >> 12, 0)
    folded[three + 1] = np.where(code, 0x80 | code >> 6 & 0x3F, 0)
    folded[three + 2] = np.where(code, 0x80 | code & 0x3F, 0)
    return folded, three[alone[before]]


@lru_cache(maxsize=1)
def _ascii() -> bytes:
    return bytes(b if b >= 0x80 else ord(chr(b).lower()) if chr(b).isalnum() else 0 for b in range(256))


@lru_cache(maxsize=1)
def _unicode() -> tuple[np.ndarray, np.ndarray]:
    """Of each code point below 0x10000: 0 where it parts words, or its lower case, if of as many bytes; and whether it is a word alone."""
    lower, alone = np.zeros(0x10000, np.int64), np.zeros(0x10000, bool)
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x10000)):
        character = chr(code)
        if unicodedata.category(character)[0] in "LNM":
            small = character.lower()
            same = len(small) == 1 and len(small.encode()) == len(character.encode())
            lower[code] = ord(small) if same else code
    for first, last in ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)):
        alone[first : last + 1] = lower[first : last + 1] != 0
    return lower, alone
