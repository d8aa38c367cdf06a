"""`NoRepeatedSentence`: no sentence is said twice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.generate.rules import Rule, Shape, Text, without
from bloomery.text.tokenizer import Tokenizer

WORDS = re.compile(r"\w+")


class NoRepeatedSentence(Rule):
    """Bans each token that would end a sentence which the text, prompt included, has already. Sentences are the same if their words are, in
    small letters; one without words may come again.
    """

    ends: str = Field(default=".!?\n", min_length=1)
    """Characters that end a sentence; a control token ends one too."""

    def check(self) -> None:
        if not self.ends.isascii():
            raise self.refuse("ends", "has characters of several bytes, whose parts may come in several tokens; give ASCII characters")

    def ready(self, tokenizer: Tokenizer | None) -> Shape:
        if tokenizer is None:
            raise ConfigError("NoRepeatedSentence looks at what tokens spell, and there is no tokenizer; give the model's own")
        return Sentences(self.ends, tokenizer)


class Sentences:
    """See `NoRepeatedSentence`."""

    def __init__(self, ends: str, tokenizer: Tokenizer) -> None:
        self._ends = re.compile(b"[" + re.escape(ends.encode()) + b"]")
        self._bytes = list(tokenizer.token_bytes)
        for control in tokenizer.controls:
            self._bytes[control] = ends[:1].encode()
        self._enders: dict[bytes, list[int]] = defaultdict(list)  # what comes before the end in a token → tokens
        for token, data in enumerate(tokenizer.token_bytes):
            if end := self._ends.search(data):
                self._enders[data[: end.start()]].append(token)

    def __call__(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        return without(scores, [list(self._banned(text.ids)) for text in texts])

    def _banned(self, ids: Sequence[int]) -> Iterator[int]:
        *whole, begun = self._ends.split(b"".join(self._bytes[token] for token in ids if token < len(self._bytes)))
        said = {words for sentence in whole if (words := words_of(sentence))}
        if not any(words.startswith(words_of(begun)) for words in said):
            return
        for rest, tokens in self._enders.items():
            if words_of(begun + rest) in said:
                yield from tokens


def words_of(data: bytes) -> str:
    """The words of a text, in small letters, a blank between them."""
    return " ".join(WORDS.findall(data.decode(errors="replace").casefold()))
