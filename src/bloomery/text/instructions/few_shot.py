"""`QuestionForm` and `FewShot`: how somebody is asked to write a question with its answer, and how what was written is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

from annotated_types import Ge
from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.rng import python_rng

Messages = list[dict[str, str]]


class Example(NamedTuple):
    """A question with its answer, as a seed or as somebody has written it.

    Attributes:
        id: of the document, with the number of the turn.
        passage: what it is about; empty where it stands for itself.
        question: what the user asks.
        answer: what the assistant says.
    """

    id: str
    passage: str
    question: str
    answer: str

    @property
    def messages(self) -> Messages:
        """The conversation: the passage and the question, then the answer."""
        asked = f"{self.passage}\n\n{self.question}" if self.passage else self.question
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": self.answer}]


class Written(NamedTuple):
    """What could be read of what was written; `fault` is what is wrong with it, and empty where nothing is."""

    question: str = ""
    answer: str = ""
    fault: str = ""


class QuestionForm(Config):
    """The form in which a question and its answer are to be written: each behind its mark, on lines of their own.

    Example:
        >>> QuestionForm().read("Question: What has wings?\\nAnswer: A bee.").answer
        'A bee.'
    """

    request: str = Field(default="Write a question about this text, and its answer.", min_length=1)
    """What is asked for."""
    question: str = Field(default="Question:", min_length=1)
    """Stands before a question."""
    answer: str = Field(default="Answer:", min_length=1)
    """Stands before an answer."""

    def write(self, example: Example) -> str:
        """An example in this form."""
        return f"{self.question} {example.question}\n{self.answer} {example.answer}"

    def read(self, text: str) -> Written:
        """A text as a question and an answer, or what is wrong with it."""
        text = text.strip()
        if not text.startswith(self.question):
            return Written(fault="nothing written" if not text else "no question at its beginning")
        question, mark, answer = text[len(self.question) :].partition(self.answer)
        if not mark:
            return Written(fault="no answer")
        question, answer = question.strip(), answer.strip()
        if not question or not answer:
            return Written(fault="an empty answer" if question else "an empty question")
        if self.question in answer or self.answer in answer:
            return Written(fault="more than one question or answer")
        return Written(question, answer)

    def asked(self, passage: str) -> str:
        """The request, behind what it is about."""
        return f"{passage}\n\n{self.request}" if passage else self.request


class FewShot(Config):
    """Prompts in which a few seeds show what is wanted, and a passage says what about.

    Which seeds stand in a prompt follows from its number and the seed of the whole alone.

    Source: Wang et al. (2022), arXiv 2212.10560 (Self-Instruct); departures: a passage may be given, as in Alberti et al. (2019), arXiv
    1906.05416, and question and answer are written at once.
    """

    form: QuestionForm = QuestionForm()
    """How questions and answers are written."""
    shots: Annotated[int, Ge(0)] = 3
    """Seeds in a prompt; 0 for a generator that has been taught the form (`AskBack`)."""

    def choose(self, seeds: Sequence[Example], seed: int, number: int) -> list[Example]:
        """The seeds of a prompt, each once, or all where there are no more."""
        return python_rng("shots", seed, number).sample(list(seeds), min(self.shots, len(seeds)))

    def prompt(self, shown: Sequence[Example], passage: str = "") -> Messages:
        """The conversation that a generator goes on with.

        Args:
            shown: the seeds, in order.
            passage: what to write about; empty for nothing in particular.
        """
        talk: Messages = []
        for example in shown:
            asked, said = self.form.asked(example.passage), self.form.write(example)
            talk += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        return [*talk, {"role": "user", "content": self.form.asked(passage)}]


def examples_of(id: str, messages: Sequence[Mapping[str, str]], passages: bool) -> list[Example]:
    """The answered questions of a conversation.

    Args:
        id: of the conversation.
        messages: an optional system message, then user and assistant in turn.
        passages: whether the user's first message is a passage and, behind its last blank line, a question; later ones are about the same.
    """
    turns = [message for message in messages if message["role"] != "system"]
    passage, found = "", list[Example]()
    for number, (asked, said) in enumerate(zip(turns[::2], turns[1::2], strict=False)):
        question = asked["content"]
        if passages and number == 0:
            passage, _, question = question.rpartition("\n\n")
        found.append(Example(f"{id}#{number}", passage, question, said["content"]))
    return found
