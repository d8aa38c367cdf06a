"""Exact match: the answer must be the expected text, apart from white space around it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import DataError
from bloomery.evals.task import Score


@dataclass(frozen=True)
class Question:
    """One turn of a conversation that a model is to answer.

    Attributes:
        id: of the document it comes from, with the number of the turn.
        messages: the conversation up to and including the user's question.
        expected: what the assistant says there.
        kind: what sort of question it is, for a table; "" where nothing is known.
    """

    id: str
    messages: tuple[Mapping[str, str], ...]
    expected: str
    kind: str = ""


@dataclass(frozen=True)
class Answered:
    """A question with a model's answer to it."""

    question: Question
    answer: str

    @property
    def right(self) -> bool:
        """Whether it is what was expected, apart from white space around it."""
        return self.answer.strip() == self.question.expected.strip()


class ExactMatch:
    """Questions with one right answer each. Every wrong answer can be read afterwards (`judge`)."""

    def __init__(self, questions: Sequence[Question]) -> None:
        if not questions:
            raise DataError("there are no questions to ask; the corpus of questions is empty or holds no conversations")
        self.questions = questions

    def samples(self) -> Sequence[Question]:
        """The questions, in order."""
        return self.questions

    def judge(self, answers: Sequence[str]) -> list[Answered]:
        """Each question with its answer."""
        return [Answered(question, answer) for question, answer in zip(self.questions, answers, strict=True)]

    def score(self, answers: Sequence[str]) -> Score:
        """The share answered exactly."""
        judged = self.judge(answers)
        return Score(sum(each.right for each in judged), len(judged))

    def by_kind(self, answers: Sequence[str]) -> dict[str, Score]:
        """The score of each kind of question, alphabetically."""
        kinds: defaultdict[str, list[bool]] = defaultdict(list)
        for each in self.judge(answers):
            kinds[each.question.kind].append(each.right)
        return {kind: Score(sum(right), len(right)) for kind, right in sorted(kinds.items())}


def questions_of(conversations: Iterable[tuple[str, Sequence[Mapping[str, Any]], Sequence[str]]]) -> list[Question]:
    """The assistant's turns of conversations as questions.

    Each turn is asked with the true conversation before it, so that an early mistake is not counted again.

    Args:
        conversations: id, messages, and the kinds of the assistant's turns in order (or nothing where they are not known).
    """
    questions = []
    for id_, messages, kinds in conversations:
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        for i, kind in zip(turns, kinds or [""] * len(turns), strict=True):
            before = tuple({"role": m["role"], "content": m["content"]} for m in messages[:i])
            questions.append(Question(f"{id_}#{i}", before, messages[i]["content"], kind))
    return questions
