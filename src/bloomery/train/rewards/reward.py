"""`Reward`: what answers are worth; `Answer`: all that a reward may look at."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bloomery.core.config import Config
from bloomery.objectives import Frozen, Models


@dataclass(frozen=True)
class Answer:
    """What a policy has written to a prompt.

    Attributes:
        document: id of the document that gave the prompt, by which a reward may know more of it.
        prompt: what was read, as text.
        text: what was written, without what ended it.
        expected: how the document itself goes on there.
        ids: of prompt and answer, the token that ended it included.
        begins: number of the first token of the answer.
        ended: whether the policy ended it; else there was no more room.
        sizes: of each token of the answer, the bytes that it stands for.
    """

    document: str
    prompt: str
    text: str
    expected: str
    ids: Sequence[int]
    begins: int
    ended: bool
    sizes: Sequence[int] = ()

    @property
    def tokens(self) -> int:
        """How many were written."""
        return len(self.ids) - self.begins


class Reward(Config):
    """What an answer is worth. Subclasses write `scores`, or `judge` where one answer is judged by itself (`Verifiable`).

    A reward that asks a model names it in `frozen` and finds it as losses do: `models.of(self.model)`.
    """

    name: str = ""
    """What figures call it; unless given, its kind: "known_answer"."""
    weight: float = 1.0
    """What its score is multiplied by before rewards are added up; 0 has it watched, and not learnt from."""

    @property
    def called(self) -> str:
        """Its name in figures."""
        return self.name or re.sub(r"(?<!^)(?=[A-Z])", "_", self.kind()).lower()

    def frozen(self) -> tuple[Frozen, ...]:
        """The models that it asks."""
        return ()

    @abstractmethod
    def scores(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        """One number for each answer, not yet weighed.

        Args:
            answers: of a whole round.
            models: those of `frozen`, and the policy.
        """

    def placed(self, answers: Sequence[Answer], models: Models) -> Sequence[Mapping[int, float]] | None:
        """Where in each answer its score is earned: number of a token there → how much, which adds up to the score. None, as here, is all of
        it on the last token."""
        return None


class Verifiable(Reward):
    """A reward that a rule gives to each answer by itself."""

    def scores(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        return [self.judge(answer) for answer in answers]

    @abstractmethod
    def judge(self, answer: Answer) -> float:
        """What one answer is worth."""
