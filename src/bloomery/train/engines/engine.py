"""`RolloutEngine`: who writes a policy's texts; `OwnEngine`: the training does, with the model as it holds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from torch import Tensor

from bloomery.core.config import Config
from bloomery.generate import Access, Draws, Random, complete_by
from bloomery.models import Model, causal
from bloomery.train.state import TrainState

AT_ONCE = 64  # rows that are written together: not the micro-batch, since logits round by their batch


class Text(NamedTuple):
    """What was written to a prompt.

    Attributes:
        tokens: what was drawn, the token that ends a text included.
        logprobs: log μ of each: by what it was drawn from.
    """

    tokens: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Wanted:
    """Texts that a policy is to write.

    Attributes:
        prompts: of each, as token ids.
        numbers: of each, over all rounds: what is drawn is a function of these and the seed.
        most: tokens of a text at most.
        room: tokens of a prompt and its text together, at most.
        sampler: μ, from logits.
        seed: of what is drawn.
        ends: the token that ends a text.
        vocab_size: of the tokenizer; ids are below it.
        nameless: ids from there on that the model has logits for, and no token has.
    """

    prompts: Sequence[Sequence[int]]
    numbers: Sequence[int]
    most: int
    room: int
    sampler: Random
    seed: int
    ends: int
    vocab_size: int
    nameless: range = range(0)

    def limit(self, i: int) -> int:
        """Tokens of one of the texts, at most."""
        return min(self.most, self.room - len(self.prompts[i]))


@dataclass(frozen=True)
class Reach:
    """How engines beside the training are reached. Nothing in it may change the result, and none of it is hashed.

    Attributes:
        folder: where weights are laid on their way.
        urls: addresses of servers, up to and with "/v1", that share the texts.
        access: key, attempts and times.
        say: told what happens.
    """

    folder: Path
    urls: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)
    say: Callable[[str], None] = print


class TextWriter(ABC):
    """An engine at work for one training."""

    @abstractmethod
    def write(self, wanted: Wanted) -> list[Text]:
        """Texts by the policy as it is now, in the order in which they are wanted. Ranks that each want some of them all ask."""


class RolloutEngine(Config, ABC):
    """Who writes the texts of a policy. That is part of what a training is, since each rounds its own way; where it runs is not."""

    exact: ClassVar[bool]
    """Whether the same texts come of the same weights and numbers, bit for bit, so that they need not be kept to be had again."""

    @abstractmethod
    def open(self, state: TrainState, reach: Reach) -> TextWriter:
        """The engine for a training, whose state has the policy as it is.

        Raises:
            ConfigError: it cannot write for such a policy, or nothing says where it runs.
        """

    def check_sampler(self, sampler: Random) -> None:
        """Raises `ConfigError` where it cannot tell log μ of what is drawn like that."""

    def check_apart(self, apart: float) -> None:
        """Raises `DataError` where what it says of its texts is not what the policy says.

        Args:
            apart: |log μ − log π| of their tokens on the mean, in nats.
        """


class OwnEngine(RolloutEngine):
    """The training itself, row by row, with the very model that it trains."""

    exact: ClassVar[bool] = True

    def open(self, state: TrainState, reach: Reach) -> TextWriter:
        return _Own(state)


class _Own(TextWriter):
    def __init__(self, state: TrainState) -> None:
        self._state = state

    def write(self, wanted: Wanted) -> list[Text]:
        return written(self._state.model, wanted)


def written(model: Model, wanted: Wanted) -> list[Text]:
    """What a model, left in the mode in which it was, writes by itself."""
    training = model.training
    model.eval()
    draws = Draws(wanted.sampler, wanted.seed, wanted.numbers, wanted.most)
    for start in range(0, len(wanted.prompts), AT_ONCE):
        part = wanted.prompts[start : start + AT_ONCE]

        def pick(logits: Tensor, rows: Sequence[int], start: int = start) -> Tensor:
            return draws(logits, [start + row for row in rows])

        complete_by(pick, causal(model), part, {wanted.ends}, wanted.most, AT_ONCE, wanted.vocab_size)
    model.train(training)
    limits = map(wanted.limit, range(len(wanted.prompts)))
    return [Text(tokens[:n], logprobs[:n]) for tokens, logprobs, n in zip(draws.tokens, draws.logprobs, limits, strict=True)]
