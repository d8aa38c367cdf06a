"""Labelled rows as token sequences: classes of texts and pairs, tags of words, the right one of several choices, numbers.

The columns of a row come in its document's `meta`, as `Files(rows=Rows(form="columns"))` leaves them. A text is `<|begin|>` text `<|end|>`, a
pair `<|begin|>` one `<|end|>` the other `<|end|>`, and choices are such sequences one behind the other. The label stands at the first token,
that of a word at one of its tokens. Rows without a label bring none, and are counted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from bloomery.core.errors import DataError, did_you_mean
from bloomery.core.units import Tokens
from bloomery.data.columns import FromColumns, listed, number_in, text_in, value_in
from bloomery.data.shards import Encoded
from bloomery.text.tokenizer import Tokenizer

Tells = Literal["classes", "numbers", "matches"]
"""What labels are: classes (or numbers of choices), numbers, or how many texts there are to choose from."""


class LabelledRow(NamedTuple):
    """A row as it is learnt: its tokens, the label at each place that has one, and how many tokens were cut."""

    tokens: list[int]
    labels: dict[int, float]
    cut: int


class Labelled(FromColumns):
    """Rows with labels for one head. Subclasses write `row`, and `read`, which tells rows apart."""

    kept: ClassVar[tuple[str, ...]] = ("labels", "cut")
    tells: ClassVar[Tells] = "classes"
    """What its labels are, and under which name `TellLabels` knows its head."""

    head: str
    """The head that the labels are for."""
    max_tokens: Tokens = 512
    """Tokens of a text, a pair or a choice at most, control tokens included; what is longer is cut at its end (of a pair, the longer one
    first), and counted."""

    @property
    def labels_for(self) -> str:
        return self.head

    @property
    def longest(self) -> int:
        return self.max_tokens

    def encoded(self, name: str, row: Mapping[str, Any], tokenizer: Tokenizer) -> Encoded:
        tokens, labels, cut = self.row(row, tokenizer)
        ids, mask = np.array(tokens, np.int64), np.zeros(len(tokens), np.uint8)
        mask[sorted(labels)] = 1
        return Encoded(name, ids, int(tokenizer.byte_lengths[ids].sum()), mask, [labels[place] for place in sorted(labels)], cut)

    @abstractmethod
    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        """One row.

        Args:
            row: its columns.
            tokenizer: whose ids are wanted.

        Raises:
            DataError: a column is missing, or holds what cannot be.
        """

    def framed(self, texts: Sequence[str], tokenizer: Tokenizer) -> tuple[list[int], int]:
        """One text or two as one sequence within `max_tokens`, and how many tokens were cut."""
        pieces, room = [tokenizer.encode(text) for text in texts], self.max_tokens - 1 - len(texts)
        over = cut = max(0, sum(map(len, pieces)) - max(room, 0))
        while over:
            longest = max(reversed(pieces), key=len)
            others = [len(piece) for piece in pieces if piece is not longest]
            less = min(over, max(1, len(longest) - max(others, default=0)))
            del longest[len(longest) - less :]
            over -= less
        return [tokenizer.begin, *(token for piece in pieces for token in (*piece, tokenizer.end))], cut


class Classes(Labelled):
    """Which of some classes a text, or a pair of texts, is of."""

    classes: tuple[str, ...] = Field(min_length=2)
    """Their names in the label's column, or if it holds numbers, what 0, 1, … mean."""
    text: str = "text"
    """The column of the text."""
    pair: str | None = None
    """The column of the other text; None for one text."""
    label: str = "label"
    """The column of the label."""

    @property
    def read(self) -> tuple[str, ...]:
        return (self.text,) if self.pair is None else (self.text, self.pair)

    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        tokens, cut = self.framed([text_in(row, column) for column in self.read], tokenizer)
        label = value_in(row, self.label)
        return LabelledRow(tokens, {} if label is None else {0: class_of(label, self.classes, self.label)}, cut)

    def told(self, label: float) -> str:
        return self.classes[int(label)]


class Tags(Labelled):
    """Of which class each word is: names, parts of speech. A word beyond `max_tokens` is cut with its tag."""

    classes: tuple[str, ...] = Field(min_length=2)
    """Their names in the tags' column, or if it holds numbers, what 0, 1, … mean."""
    words: str = "words"
    """The column of the words: a list, or a text that blanks part into them."""
    tags: str = "tags"
    """The column of their tags, likewise."""
    at: Literal["first", "last"] = "first"
    """The token of a word that has its tag; models that read forward have seen the whole word at its last."""

    @property
    def read(self) -> tuple[str, ...]:
        return (self.words,)

    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        words, tags = (listed(value_in(row, column)) for column in (self.words, self.tags))
        if tags and len(words) != len(tags):
            raise DataError(f"{len(words)} {self.words} have {len(tags)} {self.tags}; give each word one")
        tokens, labels, cut = [tokenizer.begin], dict[int, float](), 0
        for i, word in enumerate(words):
            ids = tokenizer.encode(f" {word}" if i else str(word))
            if cut or len(tokens) + len(ids) + 1 > self.max_tokens:
                cut += len(ids)
                continue
            if tags and ids:
                place = len(tokens) if self.at == "first" else len(tokens) + len(ids) - 1
                labels[place] = class_of(tags[i], self.classes, self.tags)
            tokens += ids
        return LabelledRow([*tokens, tokenizer.end], labels, cut)

    def told(self, label: float) -> str:
        return self.classes[int(label)]


class Choices(Labelled):
    """Which of several choices goes with a prompt. Each is read with the prompt as a pair, none seeing the others."""

    prompt: str = "prompt"
    """The column of the prompt."""
    choices: tuple[str, ...] = ("choices",)
    """The columns of the choices, ("A", "B", "C") say, or the one column that holds a list of them."""
    count: int = Field(default=4, ge=2)
    """Choices of each row; where they have columns of their own, as many as these."""
    label: str = "answer"
    """The column of the right one: its column's name, its number from 0, or its text."""

    def check(self) -> None:
        if len(self.choices) > 1 and self.count != len(self.choices):
            raise self.refuse("count", f"is not the number of columns in choices={self.choices}; {len(self.choices)} is")

    @property
    def read(self) -> tuple[str, ...]:
        return (self.prompt,)

    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        prompt, tokens, cut = text_in(row, self.prompt), list[int](), 0
        choices = [text_in(row, column) for column in self.choices] if len(self.choices) > 1 else listed(value_in(row, self.choices[0]))
        if len(choices) != self.count:
            raise DataError(f"{len(choices)} choices, and count={self.count}; give every row as many")
        for choice in choices:
            ids, over = self.framed([prompt, str(choice)], tokenizer)
            tokens, cut = tokens + ids, cut + over
        label = value_in(row, self.label)
        return LabelledRow(tokens, {} if label is None else {0: self._number(label, choices)}, cut)

    def _number(self, label: Any, choices: Sequence[Any]) -> int:
        for known in (self.choices, [str(choice) for choice in choices]):
            if len(known) == self.count and str(label) in known:
                return known.index(str(label))
        return class_of(label, [str(number) for number in range(self.count)], self.label)

    def told(self, label: float) -> str:
        return self.choices[int(label)] if len(self.choices) > 1 else f"choice {int(label)}"


class Numbers(Labelled):
    """A number for a text, or for a pair of texts: how alike they are, say."""

    tells: ClassVar[Tells] = "numbers"

    text: str = "text"
    """The column of the text."""
    pair: str | None = None
    """The column of the other text; None for one text."""
    label: str = "score"
    """The column of the number."""

    @property
    def read(self) -> tuple[str, ...]:
        return (self.text,) if self.pair is None else (self.text, self.pair)

    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        tokens, cut = self.framed([text_in(row, column) for column in self.read], tokenizer)
        label = number_in(row, self.label)
        return LabelledRow(tokens, {} if label is None else {0: label}, cut)


def class_of(value: Any, classes: Sequence[str], column: str) -> int:
    """The number of a class by its name, or by its number; raises `DataError` where it is none of them."""
    if str(value) in classes:
        return list(classes).index(str(value))
    number = str(value).removesuffix(".0")
    if number.isdecimal() and int(number) < len(classes):
        return int(number)
    remedy = did_you_mean(str(value), classes, f"they are {', '.join(classes)}")
    raise DataError(f"column {column!r} holds {value!r}, which is none of the classes; {remedy}")
