"""`Vocabulary`: what tasks ask of a tokenizer: ids with a meaning of their own, and where words begin."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64

from bloomery.text.tokenizer import Tokenizer

MASK = "mask"
"""The role of the id that stands where a token has been hidden."""
UNBROKEN = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0xA4CF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Scripts that set no blanks between words (Thai, Lao, Burmese, Khmer, Chinese, Japanese): each token of theirs begins a word."""


def sentinel(number: int) -> str:
    """The role of the id that stands where span `number` of a document has been cut out, from 0."""
    return f"sentinel_{number}"


def room(roles: Iterable[str], known: Iterable[str]) -> int:
    """How many ids above a tokenizer's own some roles need, where the tokenizer has those of `known` itself.

    Each role has a fixed place there, so that an id means the same in every task: the mask is the first, the sentinels follow.
    """
    return max((_place(role) + 1 for role in {*roles} - {*known}), default=0)


def _place(role: str) -> int:
    return 0 if role == MASK else 1 + int(role.removeprefix("sentinel_"))


class Vocabulary:
    """A tokenizer as tasks see it: tables with an entry per id.

    Args:
        tokenizer: which made the shards.

    Attributes:
        begin, end, pad: ids.
        text: (vocab,) whether an id stands for text; control tokens do not.
        opens: (vocab,) whether an id begins a word whatever stands before it: with a blank, a sign, or in a script without blanks.
        closes: (vocab,) whether what follows an id begins a word.
        spaced: (vocab,) whether an id begins with a blank.
        blank: (vocab,) whether an id is nothing but blanks.
        capital: (vocab,) whether the first letter of an id is a capital.
        stops: (vocab,) whether a sentence ends behind an id: ".", "!", "?" (or the full stops of other scripts), with or without quotes,
            or a line break.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.begin, self.end, self.pad = tokenizer.begin, tokenizer.end, tokenizer.pad
        self.text = tokenizer.byte_lengths > 0
        spelled = [token.decode("utf-8", "surrogateescape") for token in tokenizer.token_bytes]
        self.opens, self.closes, self.spaced, self.blank, self.capital, self.stops = np.array(
            [(_opens(s), _closes(s), s.startswith(" "), not s.strip(" "), s.lstrip()[:1].isupper(), _stops(s)) for s in spelled], bool
        ).T

    def id(self, role: str) -> int:
        """The id of a role: the tokenizer's own, or one above all of the tokenizer's."""
        return self.tokenizer.roles[role] if role in self.tokenizer.roles else self.tokenizer.vocab_size + _place(role)

    @cached_property
    def text_ids(self) -> Int64[np.ndarray, " ids"]:
        """The ids that stand for text."""
        return np.flatnonzero(self.text)

    def word_starts(
        self, tokens: Int64[np.ndarray, "rows time"], segments: Int64[np.ndarray, "rows time"]
    ) -> Bool[np.ndarray, "rows time"]:
        """Where a word, a sign or a control token begins.

        A word is a run of letters, digits and their marks, with the blank before it; every other character stands by itself, and so does
        every token of a script that sets no blanks.
        """
        before = np.roll(tokens, 1, axis=1)
        starts = self.opens[tokens] | self.closes[before] | ~self.text[tokens] | ~self.text[before]
        return starts | segment_starts(segments)


def segment_starts(segments: Int64[np.ndarray, "rows time"]) -> Bool[np.ndarray, "rows time"]:
    """Where a row or a document in it begins."""
    starts = np.ones(segments.shape, bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return starts


def _glues(char: str) -> bool:
    """Whether a character belongs to a word; a lone byte of one (a surrogate) does, too."""
    return char.isalnum() or unicodedata.category(char)[0] == "M" or "\udc80" <= char <= "\udcff"


def _opens(spelled: str) -> bool:
    if not spelled:
        return True
    first = ord(spelled[0])
    cut = 0xDCE3 <= first <= 0xDCE9  # the first byte of a character from U+3000 to U+9FFF
    return cut or not _glues(spelled[0]) or any(low <= first <= high for low, high in UNBROKEN)


def _closes(spelled: str) -> bool:
    return not spelled or not (_glues(spelled[-1]) or spelled.endswith(" "))  # a blank goes with the word behind it


def _stops(spelled: str) -> bool:
    return "\n" in spelled or spelled.rstrip(" \"'”’»)").endswith((".", "!", "?", "…", "。", "！", "？", "।", "؟"))
