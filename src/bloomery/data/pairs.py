"""`Pairs`: preferences as rows of two documents, the better one first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge

from bloomery.core.units import Tokens
from bloomery.data.encodings import Encoding, encoded_talks, talks_of
from bloomery.data.shards import Encoded
from bloomery.text.chat import ChatTemplate
from bloomery.text.instructions.preferences import Completion, preference_of
from bloomery.text.tokenizer import Tokenizer


class Pairs(Encoding):
    """Two completions of one prompt, the one that is preferred and the other, each a document of its own with the prompt before it:

        <|begin|><|user|>…<|assistant|>better<|end|> <|begin|><|user|>…<|assistant|>worse<|end|>

    What the completions say counts. A side that is too long is cut at its end; completions of one rank, and such as read alike once they are
    cut, are no pair. Documents without a pair are left out, and counted.

    Source: all pairs of a ranking: Ouyang et al. (2022), arXiv 2203.02155, section 3.5.
    """

    masked: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    column: ClassVar[str] = "messages"
    beside: ClassVar[tuple[str, ...]] = ("meta",)
    kept: ClassVar[tuple[str, ...]] = ("cut", "cut_learnt")

    template: ChatTemplate = ChatTemplate()
    """How messages are laid out."""
    of: Literal["ends", "neighbours", "all"] = "ends"
    """Of a ranking: the best and the worst, each and the next one below, or all pairs."""
    max_tokens: Annotated[Tokens, Ge(4)] = 512
    """Tokens of a side at most."""

    @property
    def passed_over(self) -> str:
        return "have no two completions of which one is preferred"

    @property
    def longest(self) -> int:
        return 2 * self.max_tokens

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        talks, learnt = [], []
        for name, messages, meta in talks_of(documents):
            if (preference := preference_of(messages, meta)) is None:
                continue
            for better, worse in self.chosen(preference.ranked().completions):
                for side in (better, worse):
                    talks.append((name, [*preference.prompt, *side.messages]))
                    learnt.append([False] * len(preference.prompt) + [message["role"] == "assistant" for message in side.messages])
        sides, number = encoded_talks(self.template, tokenizer, talks, learnt), Counter[str]()
        for better, worse in zip(sides, sides, strict=True):
            number[better.id] += 1
            if (pair := self._side_by_side(better, worse)) is not None:
                yield pair if self.of == "ends" else pair._replace(id=f"{better.id}@{number[better.id]}")

    def chosen(self, completions: Sequence[Completion]) -> list[tuple[Completion, Completion]]:
        """The pairs of a ranking, of which one is known to be the better one."""
        ranked = [one for one in completions if one.rank is not None]
        if len(ranked) < 2:
            return []
        pairs = {"ends": [(ranked[0], ranked[-1])], "neighbours": list(pairwise(ranked)), "all": list(combinations(ranked, 2))}[self.of]
        return [(better, worse) for better, worse in pairs if better.rank != worse.rank]

    def _side_by_side(self, better: Encoded, worse: Encoded) -> Encoded | None:
        """A pair as one sequence; None where the two cannot be told apart, or one has nothing left that counts."""
        assert better.mask is not None and worse.mask is not None  # noqa: PT018  conversations have masks
        room = slice(self.max_tokens)
        if np.array_equal(better.tokens[room], worse.tokens[room]) or not (better.mask[room].any() and worse.mask[room].any()):
            return None
        tokens, mask = np.concatenate([better.tokens[room], worse.tokens[room]]), np.concatenate([better.mask[room], worse.mask[room]])
        cut, learnt = len(better.tokens) + len(worse.tokens) - len(tokens), int(better.mask.sum() + worse.mask.sum() - mask.sum())
        return Encoded(better.id, tokens, better.bytes + worse.bytes, mask, cut=cut, cut_learnt=learnt)
