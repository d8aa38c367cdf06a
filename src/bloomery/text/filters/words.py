"""`Words` and `Lines`: what all texts of a batch consist of, as flat numpy arrays, for filters that count."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

JUDGED_CHARS = 10_000_000  # of a longer text, filters that count look at the beginning, so that none takes much memory
SLAB = 1 << 18  # characters worked on at once: temporaries of 2 MB each, which stay in the cache
BASE = 0x9E3779B97F4A7C15  # of the polynomial hash; odd, so that it has an inverse modulo 2^64

SPACE, LETTER, MARK, DIGIT, OWN_WORD, MID_LETTER, MID_NUMBER, MID_BOTH, SYMBOL = range(9)
OWN_WORD_SCRIPTS = ("CJK", "HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR")  # written without blanks between words


@dataclass(frozen=True)
class Words:
    """The words of all texts of a batch, in order, one after the other.

    A word is a run of letters, marks and digits, with the apostrophes and points that stand between letters ("don't", "U.S") and the commas
    and points between digits ("1,000.5"); each character of a script that sets no blanks between words; or a run of one and the same other
    character ("...", "=="), which counts as a symbol.

    Attributes:
        offsets: the words of text `i` are those from `offsets[i]` to before `offsets[i + 1]`.
        start: where each begins in its text, in characters.
        chars: how long each is, in characters.
        hash: 64 bits that are the same for the same word, wherever it stands.
        letters, digits: how many of them are in it.

    Source: Unicode Standard Annex 29, word boundaries WB4-WB13; departures: symbols of a kind run together, Katakana and Hangul do not
    differ from other letters, and no dictionary is asked.
    """

    offsets: np.ndarray
    start: np.ndarray
    chars: np.ndarray
    hash: np.ndarray
    letters: np.ndarray
    digits: np.ndarray

    @classmethod
    def of(cls, texts: pa.Array, fold: bool = False) -> Words:
        """The words of some texts, none of them null; `fold` gives words that differ by case only the same hash."""
        row, *columns = (np.concatenate(parts) for parts in zip(_EMPTY, *(_words(slab, fold) for slab in _slabs(texts)), strict=True))
        counts = np.bincount(row, minlength=len(texts))
        return cls(np.concatenate([[0], np.cumsum(counts)]), *columns)

    @property
    def counts(self) -> np.ndarray:
        """How many words each text has."""
        return np.diff(self.offsets)

    @property
    def symbol(self) -> np.ndarray:
        """Whether neither letters nor digits are in each."""
        return (self.letters == 0) & (self.digits == 0)

    @property
    def row(self) -> np.ndarray:
        """Whose each word is."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum over each text of a value per word."""
        return np.diff(np.concatenate([[0], np.cumsum(values, dtype=np.int64)])[self.offsets])


_EMPTY = tuple(np.empty(0, kind) for kind in (np.int64, np.int64, np.int32, np.uint64, np.int32, np.int32))


def word_hashes(phrases: Sequence[str], fold: bool = False) -> list[np.ndarray]:
    """The hashes of the words of each phrase: what `Words.of` gives wherever the phrase occurs."""
    found = Words.of(pa.array(phrases, pa.string()), fold)
    return [found.hash[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def occurrences(words: Words, phrases: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Where any of the phrases, given by their words' hashes, occurs in a text: with which word it begins, and how many words it has."""
    at, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    last = np.repeat(words.offsets[1:], words.counts)
    for size in sorted({len(phrase) for phrase in phrases} - {0}):
        wanted = np.unique(np.array([phrase for phrase in phrases if len(phrase) == size]), axis=0)
        places = np.flatnonzero(among(words.hash, np.unique(wanted[:, 0])))
        places = places[places + size <= last[places]]
        have = words.hash[places]
        key = wanted[:, 0]
        for i in range(1, size):
            have, key = mixed(have) ^ words.hash[places + i], mixed(key) ^ wanted[:, i]
        at.append(places[among(have, np.unique(key))])
        sizes.append(np.full(len(at[-1]), size))
    order = np.argsort(np.concatenate(at), kind="stable")
    return np.concatenate(at)[order], np.concatenate(sizes)[order]


def among(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which values are among a few that are sorted."""
    return wanted[np.searchsorted(wanted[:-1], values)] == values if len(wanted) else np.zeros(len(values), bool)


def spans_at(words: Words, at: np.ndarray, sizes: np.ndarray) -> pa.Array:
    """The stretches of the texts that some runs of words take up, row by row, in order; null where there is none."""
    start, end = words.start[at], words.start[at + sizes - 1] + words.chars[at + sizes - 1]
    counts = np.bincount(np.searchsorted(words.offsets, at, "right") - 1, minlength=len(words.offsets) - 1)
    structs = pa.StructArray.from_arrays([pa.array(start, pa.int32()), pa.array(end, pa.int32())], names=["start", "end"])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), structs, mask=pa.array(counts == 0))


@dataclass(frozen=True)
class _Slab:
    rows: list[int]  # whose the pieces are
    begins: list[int]  # where they begin in their texts
    pieces: list[str]


def _slabs(texts: pa.Array) -> Iterator[_Slab]:
    """The texts in pieces, some 2^18 characters at a time. Only longer ones are cut, behind a blank and always at the same places."""
    slab, size = _Slab([], [], []), 0
    for row, text in enumerate(texts.to_pylist()):
        begin = 0
        while begin < len(text):
            end = len(text) if len(text) - begin <= SLAB else _cut(text, begin)
            if size + end - begin > SLAB:
                yield slab
                slab, size = _Slab([], [], []), 0
            slab.rows.append(row)
            slab.begins.append(begin)
            slab.pieces.append(text[begin:end])
            size += end - begin + 1
            begin = end
    if slab.rows:
        yield slab


def _cut(text: str, begin: int) -> int:
    blank = max(text.rfind(" ", begin, begin + SLAB), text.rfind("\n", begin, begin + SLAB))
    return blank + 1 if blank >= begin else begin + SLAB


def _words(slab: _Slab, fold: bool) -> tuple[np.ndarray, ...]:
    # a blank at both ends and one between the pieces: no word begins or ends at an edge, and every place has neighbours
    codes = np.frombuffer(f" {' '.join(slab.pieces)} ".encode("utf-32-le"), np.uint32)
    classes, lower = _tables()
    kind = classes[codes]

    word = (kind == LETTER) | (kind == MARK)
    digit = kind == DIGIT
    mid = np.flatnonzero((kind >= MID_LETTER) & (kind <= MID_BOTH))
    between_letters = (kind[mid] != MID_NUMBER) & word[mid - 1] & word[mid + 1]
    between_digits = (kind[mid] != MID_LETTER) & digit[mid - 1] & digit[mid + 1]
    word |= digit
    word[mid[between_letters | between_digits]] = True

    own = kind == OWN_WORD
    ink = kind != SPACE
    symbol = ink & ~word & ~own
    goes_on = np.zeros(len(codes), bool)  # belongs to the same word as the character before it
    goes_on[1:] = (word[1:] & (word[:-1] | (own[:-1] & (kind[1:] == MARK)))) | (symbol[1:] & symbol[:-1] & (codes[1:] == codes[:-1]))
    begins = np.flatnonzero(ink & ~goes_on)
    goes_on[:-1] = goes_on[1:]
    ends = np.flatnonzero(ink & ~goes_on) + 1

    powers, inverses = _powers()
    if fold:
        codes = lower[codes]
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint32(1)) * powers[: len(codes)], out=sums[1:])
    hashes = mixed((sums[ends] - sums[begins]) * inverses[begins])

    letters = np.concatenate([[0], np.cumsum((kind == LETTER) | own, dtype=np.int32)])
    digits = np.concatenate([[0], np.cumsum(digit, dtype=np.int32)])
    starts = np.cumsum([1, *(len(piece) + 1 for piece in slab.pieces[:-1])])
    piece = np.searchsorted(starts, begins, "right") - 1
    row, begin = np.array(slab.rows, np.int64), np.array(slab.begins, np.int64)
    return (
        row[piece], begins - starts[piece] + begin[piece], (ends - begins).astype(np.int32), hashes,
        letters[ends] - letters[begins], digits[ends] - digits[begins],
    )  # fmt: skip


def mixed(hashes: np.ndarray) -> np.ndarray:
    """The numbers with their bits spread: the last step of SplitMix64 (Steele et al., 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


@lru_cache(maxsize=1)
def _powers() -> tuple[np.ndarray, np.ndarray]:
    """The powers of the hash's base, modulo 2^64, and their inverses: the hash of a word does not depend on where it stands."""
    size = 2 * SLAB + 8
    return tuple(np.cumprod(np.array([1] + [base] * (size - 1), np.uint64)) for base in (BASE, pow(BASE, -1, 1 << 64)))  # type: ignore[return-value]


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For each code point, its class and its lower case."""
    classes, lower = np.full(0x110000, SYMBOL, np.uint8), np.arange(0x110000, dtype=np.uint32)
    characters = [chr(code) for code in range(0x20000)]
    classes[:0x20000] = [_class(c) for c in characters]
    lower[:0x20000] = [ord(c.lower()) if len(c.lower()) == 1 else ord(c) for c in characters]
    classes[0x20000:0x40000] = OWN_WORD  # the two planes of rare Han characters
    classes[0xE0000:0xE1000] = MARK  # tags and variation selectors
    return classes, lower


def _class(character: str) -> int:
    middle = {"'": MID_BOTH, "’": MID_BOTH, ".": MID_BOTH, "·": MID_LETTER, ",": MID_NUMBER}.get(character)
    if middle is not None:
        return middle
    category = unicodedata.category(character)
    if character.isspace() or category in ("Cc", "Zs", "Zl", "Zp") or character == "\u200b":
        return SPACE
    if category[0] == "L":
        return OWN_WORD if unicodedata.name(character, "").startswith(OWN_WORD_SCRIPTS) else LETTER
    if category[0] == "M" or category == "Cf" or character == "_":
        return MARK
    return DIGIT if category[0] == "N" else SYMBOL


@dataclass(frozen=True)
class Lines:
    """The lines of all texts of a batch that are not blank, or their paragraphs, one after the other.

    Attributes:
        texts: each, without its line end.
        row: whose each is.
        counts: how many each text has.
    """

    texts: pa.Array
    row: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, texts: pa.Array, between: str = "\n") -> Lines:
        """The lines of some texts, none of them null; `between` is what parts them: "\\n\\n" (or more) gives paragraphs."""
        split = pc.split_pattern(texts, between)
        lines = split.flatten()
        row = np.repeat(np.arange(len(texts)), pc.list_value_length(split).to_numpy())
        if between != "\n":
            lines = pc.utf8_trim(lines, "\n")
        inked = pc.not_equal(pc.utf8_ltrim_whitespace(lines), "")
        row = row[inked.to_numpy(zero_copy_only=False)]
        return cls(lines.filter(inked), row, np.bincount(row, minlength=len(texts)))

    def total(self, values: pa.Array | np.ndarray) -> np.ndarray:
        """The sum over each text of a value per line."""
        values = values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values
        return np.bincount(self.row, weights=values, minlength=len(self.counts))

    def repeated(self) -> np.ndarray:
        """Which lines their text has had before."""
        codes = self.texts.dictionary_encode()
        key = self.row * max(1, len(codes.dictionary)) + codes.indices.to_numpy()
        again = np.ones(len(key), bool)
        again[np.unique(key, return_index=True)[1]] = False
        return again


def judged(texts: pa.Array) -> pa.Array:
    """What filters that count look at: of a text of more than ten million characters, the first ten million."""
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    return texts if longest <= JUDGED_CHARS else pc.utf8_slice_codeunits(texts, 0, JUDGED_CHARS)


def chars(texts: pa.Array) -> np.ndarray:
    """How long each text is, in characters."""
    return pc.utf8_length(texts).to_numpy().astype(np.int64)


def share(part: np.ndarray, whole: np.ndarray) -> pa.Array:
    """part / whole as float64; null where there is no whole."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return pa.array(np.asarray(part) / np.asarray(whole), pa.float64(), mask=np.asarray(whole) == 0)
