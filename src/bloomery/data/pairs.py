"""Preferences as token sequences: `Pairs`, `Rankings` and `Verdicts`. Each completion is a document of its own with the prompt before it:

    Pairs()      the better completion and the worse one, side by side
    Rankings()   all completions of a ranking, the best one first
    Verdicts()   each completion by itself, with whether it is good
"""

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
from bloomery.data.tasks.compared import WORTH
from bloomery.text.chat import ChatTemplate
from bloomery.text.instructions.preferences import Completion, Preference, preference_of
from bloomery.text.tokenizer import Tokenizer


class OfPreferences(Encoding):
    """What encodings of preferences have in common. What the completions say counts, and is labelled with what they are worth, where that
    is wanted. Completions that are too long have their prompt cut at its beginning, all of them by as much; then they are cut at their ends.
    """

    masked: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    column: ClassVar[str] = "messages"
    beside: ClassVar[tuple[str, ...]] = ("meta",)
    kept: ClassVar[tuple[str, ...]] = ("labels", "cut", "cut_learnt")

    template: ChatTemplate = ChatTemplate()
    """How messages are laid out."""
    max_tokens: Annotated[Tokens, Ge(4)] = 512
    """Tokens of prompt and completion at most."""

    @property
    def labels_for(self) -> str | None:
        return WORTH

    def groups(self, preference: Preference) -> Iterator[list[tuple[Completion, float]]]:
        """The completions that become one sequence, with what each is worth."""
        raise NotImplementedError

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        talks, learnt, worths, sizes = [], [], list[float](), []
        for name, messages, meta in talks_of(documents):
            if (preference := preference_of(messages, meta)) is None:
                continue
            for group in self.groups(preference):
                sizes.append(len(group))
                for completion, worth in group:
                    talks.append((name, [*preference.prompt, *completion.messages]))
                    learnt.append([False] * len(preference.prompt) + [message["role"] == "assistant" for message in completion.messages])
                    worths.append(worth)
        made, number, at = list(encoded_talks(self.template, tokenizer, talks, learnt)), Counter[str](), 0
        for size in sizes:
            several, some, at = made[at : at + size], worths[at : at + size], at + size
            number[several[0].id] += 1
            if (one := self._together(within(several, self.max_tokens), some)) is not None:
                yield one if self.one_each else one._replace(id=f"{one.id}@{number[one.id]}")

    @property
    def one_each(self) -> bool:
        """Whether a preference gives one sequence at most, which has its id."""
        return True

    def _together(self, several: Sequence[Encoded], worths: Sequence[float]) -> Encoded | None:
        """Completions as one sequence; None where two of them cannot be told apart, or one has nothing left that counts."""
        masks = [one.mask for one in several if one.mask is not None and one.mask.any()]
        alike = len({one.tokens.tobytes() for one in several}) < len(several)
        if alike or len(masks) < len(several):
            return None
        labels = None if self.labels_for is None else np.repeat(worths, [int(mask.sum()) for mask in masks]).tolist()
        tokens, (cut, cut_learnt) = np.concatenate([one.tokens for one in several]), (
            sum(of) for of in zip(*((one.cut, one.cut_learnt) for one in several), strict=True)
        )
        return Encoded(several[0].id, tokens, sum(one.bytes for one in several), np.concatenate(masks), labels, cut, cut_learnt)


class Pairs(OfPreferences):
    """Two completions of one prompt, the one that is preferred and the other:

        <|begin|><|user|>…<|assistant|>better<|end|> <|begin|><|user|>…<|assistant|>worse<|end|>

    Completions of one rank, and such as read alike once they are cut, are no pair. Documents without a pair are left out, and counted.

    Source: all pairs of a ranking: Ouyang et al. (2022), arXiv 2203.02155, section 3.5.
    """

    contract: ClassVar[int] = 2  # 2: prompts that are too long are cut, at their beginning

    of: Literal["ends", "neighbours", "all"] = "ends"
    """Of a ranking: the best and the worst, each and the next one below, or all pairs."""
    ratings: Literal["left_out", "kept"] = "left_out"
    """Whether the sides' ratings are kept, for losses that ask how much better one is; a pair with a side that has none counts as even."""

    @property
    def kept(self) -> tuple[str, ...]:  # type: ignore[override]
        """Cuts, and with ratings, labels."""
        return ("cut", "cut_learnt") if self.labels_for is None else ("labels", "cut", "cut_learnt")

    @property
    def labels_for(self) -> str | None:
        return None if self.ratings == "left_out" else WORTH

    @property
    def passed_over(self) -> str:
        return "have no two completions of which one is preferred"

    @property
    def longest(self) -> int:
        return 2 * self.max_tokens

    @property
    def one_each(self) -> bool:
        return self.of == "ends"

    def groups(self, preference: Preference) -> Iterator[list[tuple[Completion, float]]]:
        for pair in self.chosen(preference.ranked().completions):
            rated = [0.0 if one.rating is None else one.rating for one in pair if all(side.rating is not None for side in pair)]
            yield list(zip(pair, rated or [0.0, 0.0], strict=True))

    def chosen(self, completions: Sequence[Completion]) -> list[tuple[Completion, Completion]]:
        """The pairs of a ranking, of which one is known to be the better one."""
        ranked = [one for one in completions if one.rank is not None]
        if len(ranked) < 2:
            return []
        pairs = {"ends": [(ranked[0], ranked[-1])], "neighbours": list(pairwise(ranked)), "all": list(combinations(ranked, 2))}[self.of]
        return [(better, worse) for better, worse in pairs if better.rank != worse.rank]


class Rankings(OfPreferences):
    """All completions of a prompt, the best one first; each is labelled with its place, from 1. Of several that share a rank the first one is
    taken. Rankings of one, and such of which two read alike once they are cut, are left out, and counted.
    """

    most: Annotated[int, Ge(2)] = 8
    """Completions of a ranking at most; the worst ones beyond are left out."""

    @property
    def passed_over(self) -> str:
        return "have no two completions of which one is preferred"

    @property
    def longest(self) -> int:
        return self.most * self.max_tokens

    def groups(self, preference: Preference) -> Iterator[list[tuple[Completion, float]]]:
        by_rank = {one.rank: one for one in reversed(preference.ranked().completions) if one.rank is not None}
        ranked = [by_rank[rank] for rank in sorted(by_rank)][: self.most]
        if len(ranked) > 1:
            yield [(one, float(place)) for place, one in enumerate(ranked, start=1)]


class Verdicts(OfPreferences):
    """Each completion by itself, with whether it is good, 1 or 0: as its verdict says, or its rating, or where it is ranked, the best one is
    good and the worst one is not. Others say neither, and are left out.

    Source: pairs as two verdicts: Ethayarajh et al. (2024), KTO, arXiv 2402.01306, section 4.2.
    """

    good_from: float | None = None
    """The rating from which one without a verdict is good; None has ratings say no more than ranks."""

    @property
    def passed_over(self) -> str:
        return "have no completion of which it is said whether it is good"

    @property
    def longest(self) -> int:
        return 2 * self.max_tokens  # a prompt with the completion of another

    @property
    def one_each(self) -> bool:
        return False

    def groups(self, preference: Preference) -> Iterator[list[tuple[Completion, float]]]:
        ranked = preference.ranked().completions
        ranks = [one.rank for one in ranked if one.rank is not None]
        ends = {min(ranks): 1.0, max(ranks): 0.0} if ranks and min(ranks) < max(ranks) else {}
        for one in ranked:
            if one.good is not None:
                yield [(one, float(one.good))]
            elif one.rating is not None and self.good_from is not None:
                yield [(one, float(one.rating >= self.good_from))]
            elif one.rank in ends:
                yield [(one, ends[one.rank])]


def within(several: Sequence[Encoded], room: int) -> list[Encoded]:
    """Completions of one prompt, none longer than `room`: the prompt loses what it has to from behind its first token on, of all alike, and
    what is still too long its end."""
    over, found = max(len(one.tokens) for one in several) - room, list[Encoded]()
    for one in several:
        assert one.mask is not None  # conversations have masks
        says = int(np.argmax(one.mask)) if one.mask.any() else len(one.mask)
        front = slice(1, 1 + max(0, min(over, says - 2)))  # the first token stays, and the one before the completion, which opens it
        tokens, mask = np.delete(one.tokens, front)[:room], np.delete(one.mask, front)[:room]
        cut, cut_learnt = len(one.tokens) - len(tokens), int(one.mask.sum()) - int(mask.sum())
        found.append(one._replace(tokens=tokens, mask=mask, cut=cut, cut_learnt=cut_learnt))
    return found
