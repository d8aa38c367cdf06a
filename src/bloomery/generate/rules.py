"""Rules: what changes the scores of the next token by what has been written so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from bloomery.core.config import Config
from bloomery.text.tokenizer import Tokenizer


@dataclass
class Text:
    """A text that is being written.

    Attributes:
        prompt: token ids that it goes on from.
        new: token ids that have been written.
    """

    prompt: Sequence[int]
    new: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """All of it."""
        return [*self.prompt, *self.new]

    @property
    def length(self) -> int:
        """Tokens of all of it."""
        return len(self.prompt) + len(self.new)

    def then(self, tokens: Sequence[int]) -> Text:
        """The text with some tokens more."""
        return Text(self.prompt, [*self.new, *tokens])


Shape = Callable[[Tensor, Sequence[Text]], Tensor]
"""(scores of the next token, (batch, vocab); the text of each row so far) → other scores; −∞ for tokens that may not come."""


class Rule(Config, ABC):
    """Changes the scores of the next token, logits or log-probabilities, by what has been written.

    What comes of it depends on the text alone, so that rows may be dropped, repeated and reordered, as beams are.
    """

    @abstractmethod
    def ready(self, tokenizer: Tokenizer | None) -> Shape:
        """The rule, ready to be followed; raises `ConfigError` where it cannot be.

        Args:
            tokenizer: of the model; None will do for rules that look at ids only.
        """


class IdRule(Rule):
    """A rule that needs to know of no more than ids."""

    def ready(self, tokenizer: Tokenizer | None) -> Shape:
        return self.shape

    @abstractmethod
    def shape(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        """See `Shape`."""


class Repetition(IdRule):
    """Tokens that the text has, prompt included, count for less: a score s becomes s / factor where s > 0, and s · factor where s < 0.

    Source: Keskar et al. (2019), arXiv 1909.05858, section 4.1; the two cases are those of later code, since theirs would favour what has a
    negative score.
    """

    factor: Annotated[float, Gt(0)]
    """Above 1 discourages, below encourages; 1.2 in the source."""

    def shape(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        weighed = torch.where(scores < 0, scores * self.factor, scores / self.factor)
        return torch.where(counts([text.ids for text in texts], scores) > 0, weighed, scores)


class Presence(IdRule):
    """Takes an amount off the score of each token that has been written; the prompt does not count. Source: OpenAI's API reference."""

    amount: float
    """Below 0 encourages."""

    def shape(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        return scores - self.amount * (counts([text.new for text in texts], scores) > 0)


class Frequency(IdRule):
    """Takes an amount off the score of each token as often as it has been written; the prompt does not count. Source: OpenAI's API reference.
    """

    amount: float
    """Below 0 encourages."""

    def shape(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        return scores - self.amount * counts([text.new for text in texts], scores)


class NoRepeatNGram(IdRule):
    """No n tokens in a row come twice, prompt included. Source: Paulus et al. (2017), arXiv 1705.04304, section 2.5, for n = 3."""

    n: Annotated[int, Ge(1)]
    """Tokens in a row."""

    def shape(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        return without(scores, [self._banned(text.ids) for text in texts])

    def _banned(self, ids: Sequence[int]) -> list[int]:
        if len(ids) < self.n:
            return []
        windows = np.lib.stride_tricks.sliding_window_view(np.asarray(ids), self.n)
        begun = np.asarray(ids[len(ids) - self.n + 1 :])
        return windows[(windows[:, :-1] == begun).all(axis=1), -1].tolist()


class LogitBias(IdRule):
    """Adds to the scores of some tokens. Source: OpenAI's API reference."""

    biases: dict[int, float]
    """Token id → what is added; −100 all but forbids, 100 all but forces."""

    def ready(self, tokenizer: Tokenizer | None) -> Shape:
        if tokenizer is not None:
            self._check(tokenizer.vocab_size)
        return self.shape

    def shape(self, scores: Float[Tensor, "batch vocab"], texts: Sequence[Text]) -> Float[Tensor, "batch vocab"]:
        self._check(scores.shape[-1])
        bias = torch.zeros_like(scores[0])
        bias[list(self.biases)] = scores.new_tensor(list(self.biases.values()))
        return scores + bias

    def _check(self, vocab_size: int) -> None:
        if not all(0 <= token < vocab_size for token in self.biases):
            raise self.refuse("biases", f"names a token that there is not; ids are 0 to {vocab_size - 1}")


def counts(rows: Sequence[Sequence[int]], scores: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
    """How often each row has each token. Ids that have no score, which a prompt may have, are passed over."""
    places = torch.tensor([i for i, row in enumerate(rows) for _ in row], dtype=torch.long, device=scores.device)
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=scores.device)
    found = scores.new_zeros(scores.shape[0], scores.shape[1] + 1)  # a column more for them
    return found.index_put_((places, ids.clamp(max=scores.shape[1])), scores.new_ones(()), accumulate=True)[:, :-1]


def without(scores: Float[Tensor, "batch vocab"], banned: Sequence[Iterable[int]]) -> Float[Tensor, "batch vocab"]:
    """−∞ for the tokens that are banned in each row."""
    return scores.masked_fill(counts([list(row) for row in banned], scores) > 0, -torch.inf)


def only(scores: Float[Tensor, "batch vocab"], allowed: Sequence[Iterable[int]]) -> Float[Tensor, "batch vocab"]:
    """−∞ for the tokens that are not allowed in each row."""
    return scores.masked_fill(counts([list(row) for row in allowed], scores) == 0, -torch.inf)
