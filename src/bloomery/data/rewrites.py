"""`Rewrites`: texts and what is to be written about them: translations, summaries, answers in other words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge

from bloomery.core.units import Tokens
from bloomery.data.columns import FromColumns, text_in
from bloomery.data.shards import Encoded
from bloomery.text.tokenizer import Tokenizer


class Rewrites(FromColumns):
    """A text, and the text that is to be written about it; only the latter is learnt, with the `<|end|>` that closes it.

        <|begin|> source <|end|> target <|end|>

    Under `NextToken()` a decoder reads the one and goes on with the other; under `FromPassage()` an encoder reads and a decoder writes. A
    target that is too long is cut and has no `<|end|>`, which is not where it ends. Of rows without a target nothing is learnt, and they are
    counted. An encoder–decoder, which has no heads, learns classes as words to write (`target="label"`); those that are exact are right.

    Source: both in one sequence: Liu et al. (2018), arXiv 1801.10198, section 4.2.3; names of tasks before texts: Raffel et al. (2020), arXiv
    1910.10683, section 2.4.
    """

    kept: ClassVar[tuple[str, ...]] = ("cut", "cut_learnt")

    source: str = "source"
    """The column of the text that is read."""
    target: str = "target"
    """The column of the text that is written."""
    before: str = ""
    """Put before each source, so that a model that learns several tasks knows which it is: "summarise: "."""
    max_source: Annotated[Tokens, Ge(3)] = 384
    """Tokens of a source at most, control tokens included; what is longer is cut at its end, and counted."""
    max_target: Annotated[Tokens, Ge(1)] = 128
    """Tokens of a target at most, `<|end|>` included, likewise."""

    @property
    def longest(self) -> int:
        return self.max_source + self.max_target

    @property
    def read(self) -> tuple[str, ...]:
        return (self.source,)

    def encoded(self, name: str, row: Mapping[str, Any], tokenizer: Tokenizer) -> Encoded:
        source, target = tokenizer.encode(self.before + text_in(row, self.source)), text_in(row, self.target)
        written = [*tokenizer.encode(target), tokenizer.end] if target else []
        room, over = self.max_source - 2, max(0, len(written) - self.max_target)
        read = [tokenizer.begin, *source[:room], tokenizer.end]
        tokens = np.array([*read, *written[: self.max_target]], np.int64)
        mask = np.zeros(len(tokens), np.uint8)
        mask[len(read) :] = 1
        return Encoded(
            name, tokens, int(tokenizer.byte_lengths[tokens].sum()), mask, cut=max(0, len(source) - room) + over, cut_learnt=over,
        )  # fmt: skip


def parted(tokens: np.ndarray, mask: np.ndarray) -> tuple[list[int], list[int]]:
    """What is read and what is written of such a row, control tokens included."""
    split = int(mask.argmax()) if mask.any() else len(tokens)
    return tokens[:split].tolist(), tokens[split:].tolist()
