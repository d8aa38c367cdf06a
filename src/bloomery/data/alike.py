"""Labelled rows of texts that are read each by itself: how alike two are, and which of several goes with one.

A row is its texts one behind the other, each a document `<|begin|>` text `<|end|>` that sees no other; its label stands at the first token of
the first one. A model makes a vector of each (`SimilarityConfig`), and vectors are compared, so that each text is read once, whatever it is
compared with. For a pair that is read as one document take `Numbers` or `Classes` with `pair=…`.

Source: Reimers and Gurevych (2019), arXiv 1908.10084, section 3; two texts with one encoder: Bromley et al. (1993), NIPS 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from bloomery.data.columns import number_in, text_in, value_in
from bloomery.data.labelled import Labelled, LabelledRow, Tells
from bloomery.text.tokenizer import Tokenizer


class Apart(Labelled):
    """Rows of texts that are each a document."""

    def side_by_side(self, texts: Sequence[str], label: float | None, tokenizer: Tokenizer) -> LabelledRow:
        """Texts one behind the other, and what is told of them."""
        framed = [self.framed([text], tokenizer) for text in texts]
        tokens = [token for ids, _ in framed for token in ids]
        return LabelledRow(tokens, {} if label is None else {0: label}, sum(cut for _, cut in framed))


class Likeness(Apart):
    """How alike two texts are, as a number."""

    tells: ClassVar[Tells] = "numbers"

    text: str = "text"
    """The column of the one text."""
    pair: str = "pair"
    """The column of the other one."""
    label: str = "score"
    """The column of the number."""
    least: float = 0.0
    """The number that means "not at all", which becomes 0."""
    most: float = 1.0
    """The number that means "the same", which becomes 1."""

    def check(self) -> None:
        if self.least >= self.most:
            raise self.refuse("least", f"is not below most={self.most}; give the two ends of the scale")

    @property
    def read(self) -> tuple[str, ...]:
        return (self.text, self.pair)

    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        number = number_in(row, self.label)
        label = None if number is None else (number - self.least) / (self.most - self.least)
        return self.side_by_side([text_in(row, column) for column in self.read], label, tokenizer)


class Matches(Apart):
    """Which text goes with another one: an answer with its question, a title with its article. Rows without one of the two have no label.

    The label is how many texts there are to choose from; they follow, the right one first.
    """

    tells: ClassVar[Tells] = "matches"

    anchor: str = "anchor"
    """The column of the text that others are compared with."""
    positive: str = "positive"
    """The column of the one that goes with it."""
    negatives: tuple[str, ...] = ()
    """The columns of such as do not, or the one column that holds a list of them; empty ones are left out. None need be given: other rows'
    texts are negatives, too."""

    @property
    def read(self) -> tuple[str, ...]:
        return (self.anchor, self.positive)

    def row(self, row: Mapping[str, Any], tokenizer: Tokenizer) -> LabelledRow:
        anchor, right = (text_in(row, column) for column in self.read)
        wrong: list[str] = []
        for column in self.negatives:
            value = value_in(row, column)
            wrong += map(str, value) if isinstance(value, list) else [text_in(row, column)]
        wrong = [text for text in wrong if text]
        texts = [anchor, right, *wrong]
        return self.side_by_side(texts, float(len(texts) - 1) if anchor and right else None, tokenizer)

    def told(self, label: float) -> str:
        return f"goes with the first of {label:g}"
