"""`ByWords`: texts encoded word by word, each different word once; the same ids as from the `tokenizers` library, in a fraction of its time.

The library's time goes into cutting a text into words with their places, not into the tokens. Where it is known how it cuts, another
regular expression engine cuts as it does, and the library encodes only the words that have not been seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import regex
from jaxtyping import Int
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from bloomery.text.tokenizer.alphabet import BLANK
from bloomery.text.tokenizer.spelling import Plain, flat
from bloomery.text.tokenizer.splits import Gpt2, Gpt4

REMEMBERED_CHARS = 4 << 20  # in words; beyond it all words are forgotten
LONG_CHARS = 1 << 20  # a text of more is cut without a list of its words

KNOWN = (Gpt2().pattern, *(Gpt4(max_digits=n).pattern for n in range(1, 10)))
ANY = r"[\s\S]"  # of `Characters`
SPACED = r"[^ \t\n\r]+"  # what lies between white space that every tokenizer with that notion takes for it
BLANKED = f"[ {BLANK}]+[^ {BLANK}]*|[^ {BLANK}]+"  # as SentencePiece's pieces begin: with all the blanks before them


class ByWords:
    """Encodes texts by way of their words. Threads may ask at once, and are answered one after the other: all learn into the same tables.

    Args:
        words: encodes a word on its own.
        ids_of: the ids of what `words` has encoded.
        pattern: what a word is. The words of a text, laid end to end, must have the ids of the text.
        prefix: put before each text that is not empty.
        cut: the library's own way of cutting, which has to agree with `pattern`; None where the pattern leaves no room for doubt.
    """

    def __init__(
        self, words: Backend, ids_of: Callable[[Any], Sequence[int]], pattern: str, prefix: str = "",
        cut: pre_tokenizers.PreTokenizer | None = None,
    ) -> None:  # fmt: skip
        self._words, self._ids_of, self._prefix, self._cut = words, ids_of, prefix, cut
        self._pattern = regex.compile(pattern)
        self._tried: set[str] = set()
        self._odd: set[str] = set()  # characters that the two engines take for something different
        self._one_at_a_time = threading.Lock()
        self._forget()

    def encode(self, texts: Sequence[str]) -> list[Int[np.ndarray, " tokens"]] | None:
        """The ids of each text; None where a text has a character about which the two engines disagree.

        Raises:
            TypeError, UnicodeEncodeError: a text has a lone surrogate.
        """
        if self._prefix:
            texts = [self._prefix + text if text else text for text in texts]
        with self._one_at_a_time:
            return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> list[Int[np.ndarray, " tokens"]] | None:
        if self._odd and any(char in text for text in texts for char in self._odd):
            return None
        if self._index.chars > REMEMBERED_CHARS:
            self._forget()
        found = [self._find(text) for text in texts]
        if self._index.new and not self._learn():
            return None
        counts = np.array([len(words) for words in found], np.int64)
        words = np.concatenate([np.empty(0, np.int64), *found])
        lengths = self._lengths[words]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(ends[-1]) + np.repeat(self._starts[words] - ends[:-1], lengths)
        return np.split(self._ids[places], ends[np.cumsum(counts)[:-1]]) if len(texts) else []

    def _find(self, text: str) -> Int[np.ndarray, " words"]:
        """The numbers of a text's words."""
        if len(text) > LONG_CHARS:
            return np.fromiter((self._index[match[0]] for match in self._pattern.finditer(text)), np.int64)
        words = self._pattern.findall(text)
        return np.fromiter(map(self._index.__getitem__, words), np.int64, len(words))

    def _learn(self) -> bool:
        """Encodes the new words; False if the engines disagree about them."""
        new, self._index.new = self._index.new, []
        strange = set(chain.from_iterable(new)) - self._tried
        try:
            self._odd.update(char for char in strange if not self._agree(char))
            encoded = [self._ids_of(e) for e in self._words.encode_batch_fast(new, add_special_tokens=False)]
        except BaseException:
            self._forget()
            raise
        self._tried |= strange
        lengths = np.fromiter(map(len, encoded), np.int64, len(new))
        self._starts = np.concatenate([self._starts, len(self._ids) + np.cumsum(lengths) - lengths])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._ids = np.concatenate([self._ids, np.fromiter(chain.from_iterable(encoded), np.int32, int(lengths.sum()))])
        return self._odd.isdisjoint(strange)

    def _agree(self, char: str) -> bool:
        """Whether a character is of one kind for both engines: their versions of Unicode may differ."""
        if self._cut is None:
            return True
        tried = f"a{char}b {char}1{char} '{char}{char}\n{char} {char}.\t{char}"
        return [piece for piece, _ in self._cut.pre_tokenize_str(tried)] == self._pattern.findall(tried)

    def _forget(self) -> None:
        self._index = _Index()
        self._ids, self._starts, self._lengths = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64)


class _Index(dict[str, int]):
    """Numbers words in the order in which they are asked for first."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []
        self.chars = 0

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self.new.append(word)
        self.chars += len(word)
        return number


def by_words(backend: Backend, plain: Plain, ids_of: Callable[[Any], Sequence[int]]) -> ByWords | None:
    """The way by words for a tokenizer that cuts texts in a known manner; None for others.

    Args:
        backend: the tokenizer, to which control tokens are plain text.
        plain: its file.
        ids_of: as in `ByWords`.
    """
    if any(not token["special"] for token in plain["added_tokens"]):
        return None  # such a token is looked for across words
    normalisers, steps = list(flat(plain.get("normalizer"), "normalizers")), list(flat(plain.get("pre_tokenizer"), "pretokenizers"))
    kinds = [step["type"] for step in steps]
    if not normalisers and kinds[:1] == ["Split"] and steps[0]["behavior"] == "Isolated" and not steps[0]["invert"]:
        pattern = steps[0]["pattern"].get("Regex")
        if pattern == ANY and len(steps) == 1:
            return ByWords(backend, ids_of, ANY)
        if pattern in KNOWN and len(steps) == 2 and not steps[1].get("use_regex") and (last := _within_words(steps[1])) is not None:
            return ByWords(_alone(backend, last), ids_of, pattern, cut=_cut(pattern))
    if not normalisers and kinds == ["ByteLevel"] and steps[0]["use_regex"] and (last := _within_words(steps[0])) is not None:
        return ByWords(_alone(backend, last), ids_of, Gpt2().pattern, cut=_cut(Gpt2().pattern))
    if not steps and [part["type"] for part in normalisers] == ["Prepend", "Replace"] and plain["model"]["type"] == "BPE":
        prepend, replace = normalisers
        if prepend["prepend"] == replace["content"] == BLANK and replace["pattern"] == {"String": " "} and not _joins_words(plain):
            return ByWords(_alone(backend, normaliser=normalizers.Replace(" ", BLANK)), ids_of, BLANKED, prefix=" ")
    if kinds in (["BertPreTokenizer"], ["WhitespaceSplit"]) and [part["type"] for part in normalisers] in ([], ["BertNormalizer"]):
        return ByWords(backend, ids_of, SPACED)
    return None


def _within_words(step: Plain) -> pre_tokenizers.PreTokenizer | None:
    """What is done to each word after the cutting; None where it would depend on the words around."""
    if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if step["type"] == "Metaspace" and step["prepend_scheme"] == "never":
        return pre_tokenizers.Metaspace(replacement=step["replacement"], prepend_scheme="never", split=step["split"])
    return None


def _alone(
    backend: Backend, step: pre_tokenizers.PreTokenizer | None = None, normaliser: normalizers.Normalizer | None = None,
) -> Backend:  # fmt: skip
    """The same model, for words that are cut already; it has no control tokens to look for."""
    words = Backend(backend.model)
    if step is not None:
        words.pre_tokenizer = step
    if normaliser is not None:
        words.normalizer = normaliser
    return words


def _cut(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def _joins_words(plain: Plain) -> bool:
    """Whether a token may go on over a blank."""
    return any(BLANK in token.lstrip(BLANK) for token in plain["model"]["vocab"])
