"""A tokenizer, its vocabulary and rows of documents, for tests of tasks."""

from __future__ import annotations

from functools import cache

import numpy as np

from bloomery.data.source import Rows, Source, Span, Supply
from bloomery.data.tasks import Vocabulary
from bloomery.text.tokenizer import Tokenizer

TEXTS = (
    "Once upon a time there lived a King Arthur in New York. He was glad! The end came soon, they said.",
    "Tom Moss the baker went to the market and bought two apples. Then he met Mary Ann, who sold him bread.",
    "It rained. Nobody came to the old mill, and the cat slept until the evening; the dog did not.",
)


@cache
def tokenizer() -> Tokenizer:
    """Of the texts' words, so that most words are one token and unknown ones are several."""
    return Tokenizer.train([text for text in TEXTS for _ in range(20)], vocab_size=400)


@cache
def vocabulary() -> Vocabulary:
    """Of the same."""
    return Vocabulary(tokenizer())


def row_of(documents: list[list[int]], time: int) -> Rows:
    """One row of whole documents, padded."""
    pad, place = tokenizer().pad, 0
    out = Rows.empty(1, time, pad)
    for number, ids in enumerate(documents, start=1):
        here = slice(place, place + len(ids))
        out.tokens[0, here], out.segments[0, here] = ids, number
        out.targets[0, here], out.loss_weight[0, here] = [*ids[1:], pad], [*[1] * (len(ids) - 1), 0]
        place += len(ids)
    assert place <= time
    return out


def stacked(rows: list[Rows]) -> Rows:
    """Rows one below the other."""
    return Rows(*(np.concatenate(arrays) for arrays in zip(*(one[:4] for one in rows), strict=True)))


class Shelf(Source):
    """Rows of random documents of the texts' words; row i is a function of i."""

    def __init__(self, time: int = 64, longest: int = 40) -> None:
        self.time, self.longest, self.vocab_size = time, longest, tokenizer().vocab_size

    def rows(self, first_row: int, rows: int) -> Rows:
        return stacked([self._row(i) for i in range(first_row, first_row + rows)])

    def _row(self, number: int) -> Rows:
        rng, room, documents = np.random.default_rng(number), self.time, []
        while room > 5:
            length = min(int(rng.integers(5, self.longest + 1)), room)
            words = rng.choice(vocabulary().text_ids, length - 2).tolist()
            documents.append([tokenizer().begin, *words, tokenizer().end])
            room -= length
        return row_of(documents, self.time)

    def documents(self, first_row: int, rows: int) -> list[Span]:
        return []

    def supply(self, rows: int) -> list[Supply]:
        return []
