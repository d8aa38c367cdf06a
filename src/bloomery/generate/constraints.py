"""`OneOf`: the text is one of a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.generate.rules import Rule, Shape, Text, only
from bloomery.text.tokenizer import Tokenizer


class OneOf(Rule):
    """Lets only those tokens come that spell one of some texts, each as the tokenizer spells it; then the text ends.

    Source: De Cao et al. (2021), arXiv 2010.00904, section 3.2: the trie of the texts' tokens.
    """

    texts: tuple[str, ...] = Field(min_length=1)
    """What may be written. What the model expects before a word, a blank for many tokenizers, belongs to it."""

    def check(self) -> None:
        if "" in self.texts:
            raise self.refuse("texts", "has an empty one, which would leave the model nothing to say; take it out")

    def ready(self, tokenizer: Tokenizer | None) -> Shape:
        if tokenizer is None:
            raise ConfigError("OneOf spells texts as tokens, and there is no tokenizer; give the model's own")
        return TokenTrie(tokenizer.encode_batch(self.texts), tokenizer.end)


class TokenTrie:
    """The beginnings of some sequences of tokens, each of which ends with `end`."""

    def __init__(self, sequences: Iterable[Sequence[int]], end: int) -> None:
        self._root: dict[int, Any] = {}
        for sequence in sequences:
            node = self._root
            for token in (*sequence, end):
                node = node.setdefault(token, {})

    def __call__(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        return only(scores, [self.behind(text.new) for text in texts])

    def behind(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that may come next."""
        node = self._root
        for token in tokens:
            node = node.get(token, {})
        return list(node)
