"""`Prompt`: one wording of a task, and how a row of it, with examples before it, is put to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from bloomery.core.config import Config
from bloomery.core.errors import DataError, did_you_mean
from bloomery.evals.likelihood import Pair, parted
from bloomery.text.chat import ChatTemplate
from bloomery.text.instructions.templates import filled, slots
from bloomery.text.tokenizer import Tokenizer


class Shown(NamedTuple):
    """An example: what is asked, and the answer to it as it is to be given."""

    asked: str
    answer: str


class Prompt(Config):
    """A wording: what is asked of each row, in the words of its columns, and how an answer follows.

        before  asked answer  between  asked answer  between  asked
        └─────  examples  ──────────────────────────┘        └ row

    Example:
        >>> Prompt(name="plain", ask="Question: {question}\\nAnswer:")
        >>> Prompt(name="letters", ask="{question}\\n{choices}\\nAnswer:", labels=("A", "B", "C", "D"))
    """

    name: str = "plain"
    """Of the wording, in tables."""
    ask: str
    """With columns of the row in braces; {choices} is the list of choices, where they have `labels`."""
    answer: str = " {answer}"
    """How an answer follows what is asked."""
    before: str = ""
    """What stands before everything, an instruction with the blank behind it; in a chat, the system's message."""
    between: str = "\n\n"
    """What stands between examples."""
    alone: str = ""
    """What stands before an answer where nothing is asked: how likely answers are by themselves is told behind it. "Answer:", say."""
    labels: tuple[str, ...] = ()
    """What choices are called where the list of them is part of what is asked: the answer is the label of one. Empty: it is the text of one."""
    form: Literal["text", "chat"] = "text"
    """"text": the model goes on with it. "chat": the user asks, and the assistant answers, examples being earlier turns."""

    def check(self) -> None:
        if slots(self.answer) != {"answer"}:
            raise self.refuse("answer", "is to have the one slot {answer}")
        if bool(self.labels) != ("choices" in slots(self.ask)):
            raise self.refuse("labels", "go with the slot {choices} in ask: give both, or neither")
        if len(set(self.labels)) < len(self.labels):
            raise self.refuse("labels", "has one label twice; give each choice its own")

    def asked(self, row: Mapping[str, Any], choices: Sequence[str] = ()) -> str:
        """What is asked of a row; raises `DataError` where it lacks a column."""
        values = {name: text_of(value) for name, value in row.items()}
        if self.labels:
            if len(choices) > len(self.labels):
                raise DataError(f"there are {len(choices)} choices, and prompt {self.name!r} has {len(self.labels)} labels; give it more")
            values["choices"] = "\n".join(f"{label}. {text}" for label, text in zip(self.labels, choices, strict=False))
        if missing := slots(self.ask) - values.keys():
            name, known = sorted(missing)[0], ", ".join(row)
            raise DataError(f"no column {name!r}, which prompt {self.name!r} asks for; {did_you_mean(name, row, f'it has {known}')}")
        return filled(self.ask, values)

    def answered(self, text: str) -> str:
        """A text as an answer, with what stands before it."""
        return filled(self.answer, {"answer": text})

    def context(self, shown: Sequence[Shown], asked: str) -> str:
        """Examples, and what is asked behind them, as one text; of a chat, as it is shown to people."""
        examples = [one.asked + (self.answered(one.answer) if self.form == "text" else f"\n{one.answer}") for one in shown]
        return self.before + self.between.join([*examples, asked])

    def ids(self, tokenizer: Tokenizer, shown: Sequence[Shown], asked: str) -> list[int]:
        """The same as the model reads it, for it to go on."""
        if self.form == "text":
            return [tokenizer.begin, *tokenizer.encode(self.context(shown, asked))]
        messages = [{"role": "system", "content": self.before}] if self.before else []
        for one in shown:
            messages += [{"role": "user", "content": one.asked}, {"role": "assistant", "content": one.answer}]
        return ChatTemplate().render([*messages, {"role": "user", "content": asked}], tokenizer, add_generation_prompt=True).ids

    def pairs(self, tokenizer: Tokenizer, shown: Sequence[Shown], asked: str, answers: Sequence[str]) -> list[Pair]:
        """The same before each of some answers."""
        if self.form == "text":
            context = self.context(shown, asked)
            return [parted(tokenizer, context, self.answered(answer)) for answer in answers]
        before = tuple(self.ids(tokenizer, shown, asked))
        return [Pair(before, tuple(tokenizer.encode(answer))) for answer in answers]

    def unasked(self, tokenizer: Tokenizer, answers: Sequence[str]) -> list[Pair]:
        """Answers by themselves."""
        if self.form == "text":
            return [parted(tokenizer, self.alone, self.answered(answer)) for answer in answers]
        return [Pair((tokenizer.begin, tokenizer.assistant), tuple(tokenizer.encode(answer))) for answer in answers]


def text_of(value: Any) -> str:
    """What a column holds, as text."""
    if isinstance(value, str):
        return value
    return "" if value is None else str(value) if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)
