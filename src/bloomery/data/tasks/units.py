"""What is hidden together: a `Unit` parts a row into runs of tokens, of which a masking hides some, each whole or not at all.

    Token()    each token by itself
    Word()     all tokens of a word
    Span()     runs of words of random length
    Entity()   names and phrases as wholes, words elsewhere
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Le
from jaxtyping import Bool, Int64

from bloomery.core.config import Config
from bloomery.data.tasks.vocabulary import Vocabulary
from bloomery.text.tokenizer import Tokenizer


class Unit(Config):
    """What is hidden together."""

    alike: ClassVar[bool] = False
    """Whether all tokens of a unit are hidden in the same way: all under the mask, say, or each under another token."""

    @abstractmethod
    def starts(
        self, tokens: Int64[np.ndarray, " time"], words: Bool[np.ndarray, " time"], vocabulary: Vocabulary, rng: np.random.Generator
    ) -> Bool[np.ndarray, " time"]:
        """Where a unit begins; the first place is one.

        Args:
            tokens: of a row.
            words: where words, signs, control tokens and documents begin.
            vocabulary: of the tokens.
            rng: for units of random length.
        """


class Token(Unit):
    """Each token by itself.

    Source: Devlin et al. (2019), arXiv 1810.04805, section 3.1.
    """

    def starts(
        self, tokens: Int64[np.ndarray, " time"], words: Bool[np.ndarray, " time"], vocabulary: Vocabulary, rng: np.random.Generator
    ) -> Bool[np.ndarray, " time"]:
        return np.ones_like(words)


class Word(Unit):
    """All tokens of a word; see `Vocabulary.word_starts`.

    Source: the whole-word masking of BERT's published code (2019); here words are told by the bytes of tokens.
    """

    def starts(
        self, tokens: Int64[np.ndarray, " time"], words: Bool[np.ndarray, " time"], vocabulary: Vocabulary, rng: np.random.Generator
    ) -> Bool[np.ndarray, " time"]:
        return words


class Span(Unit):
    """Runs of ℓ words, P(ℓ) ∝ p·(1 − p)^(ℓ−1) for 1 ≤ ℓ ≤ longest; a control token or the end of a document cuts a run short.

    Source: Joshi et al. (2020), arXiv 1907.10529, section 3.1. Departure: the row is parted into spans of such lengths, of which some are
    hidden, rather than spans thrown on it until enough of it is covered: the lengths are distributed alike, and spans do not overlap.
    """

    alike: ClassVar[bool] = True

    p: Annotated[float, Gt(0), Le(1)] = 0.2
    """Of the geometric distribution."""
    longest: Annotated[int, Gt(0)] = 10
    """Words in a span at most; with p = 0.2 and 10 the mean is 3.8."""

    @property
    def chances(self) -> np.ndarray:
        """(longest,) of the lengths 1, 2, …"""
        chances = self.p * (1 - self.p) ** np.arange(self.longest)
        return chances / chances.sum()

    def starts(
        self, tokens: Int64[np.ndarray, " time"], words: Bool[np.ndarray, " time"], vocabulary: Vocabulary, rng: np.random.Generator
    ) -> Bool[np.ndarray, " time"]:
        places = np.flatnonzero(words)
        begins = np.cumsum(rng.choice(self.longest, size=len(places), p=self.chances) + 1)
        starts = np.zeros_like(words)
        starts[places[np.concatenate([[0], begins[begins < len(places)]])]] = True
        control = ~vocabulary.text[tokens]
        return starts | control | (np.roll(control, 1) & words)


class Entity(Unit):
    """Names and phrases as wholes, and words elsewhere.

    A name is a run of words that begin with a capital, with nothing but blanks between them; a phrase is one of a list. That is all that is
    known here: the first word of a sentence counts as a name, and so does every noun of a German text. Where entities matter, give a list.

    Source: Sun et al. (2019), ERNIE, arXiv 1904.09223, section 3.2. Departures: names and phrases are told as above, not by a tagger and a
    chunker; one stage for all units, not three in turn.
    """

    phrases: tuple[str, ...] = ()
    """Words and phrases that are hidden as wholes, as they are written; the longest that fits counts."""
    capitals: bool = True
    """Whether runs of words that begin with a capital are wholes."""

    def starts(
        self, tokens: Int64[np.ndarray, " time"], words: Bool[np.ndarray, " time"], vocabulary: Vocabulary, rng: np.random.Generator
    ) -> Bool[np.ndarray, " time"]:
        starts = words.copy()
        if self.capitals:
            places = np.flatnonzero(words)
            letters = places + vocabulary.blank[tokens[places]]  # a blank may be a token of its own
            named = vocabulary.capital[np.append(tokens, tokens[:1])[letters]] & vocabulary.text[tokens[places]]
            goes_on = named & np.roll(named, 1) & vocabulary.spaced[tokens[places]]
            goes_on[:1] = False
            starts[places[goes_on]] = False
        if self.phrases:
            listed, row, place = spelled(self.phrases, vocabulary.tokenizer), tokens.tolist(), 0
            while place < len(row):
                found = _longest(listed.get(row[place], ()), row, place, words) if words[place] else 0
                if found:
                    starts[place], starts[place + 1 : place + found] = True, False
                    starts[place + found : place + found + 1] = True
                place += found or 1
        return starts


@lru_cache(maxsize=8)
def spelled(phrases: tuple[str, ...], tokenizer: Tokenizer) -> dict[int, list[tuple[int, ...]]]:
    """The ids of phrases, within a text and at the beginning of one, by their first id and the longest first."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for ids in {tuple(ids) for phrase in phrases for ids in tokenizer.encode_batch([phrase, f" {phrase}"]) if ids}:
        found.setdefault(ids[0], []).append(ids)
    return {first: sorted(some, key=len, reverse=True) for first, some in found.items()}


def _longest(candidates: list[tuple[int, ...]] | tuple[()], row: list[int], place: int, words: np.ndarray) -> int:
    """Tokens in the first of the candidates that stands at a place and ends with a word; 0 for none."""
    for ids in candidates:
        end = place + len(ids)
        if tuple(row[place:end]) == ids and (end == len(row) or words[end]):
            return len(ids)
    return 0
