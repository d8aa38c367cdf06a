"""`SpanCorruption`: spans are cut out of a passage, and an encoder–decoder writes them down."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt

from bloomery.core.errors import DataError
from bloomery.data.batch import Batch
from bloomery.data.source import Rows
from bloomery.data.tasks.task import RowTask, batch_of, stretches, task_rng
from bloomery.data.tasks.vocabulary import Vocabulary, sentinel
from bloomery.nn.layout import Passage, SequenceLayout


class SpanCorruption(RowTask):
    """Spans of a document are replaced by `<|sentinel_0|>`, `<|sentinel_1|>`, …; the decoder writes each sentinel and what stood there.

        passage:  <|begin|> Once upon <0> there lived <1> king <|end|>
        text:     <0> a time <1> a <|end|>            (read behind <|begin|>)

    N = round(rate · L) of a row's L tokens go, in S = round(N / mean_length) spans. Rows are made of so many tokens that the passage is as
    long as rows are wanted to be, L − N + S; the text has N + S + 1 places. Where a row holds several documents, the spans are spread over
    them by their lengths, and as each has its own `<|end|>` in the text, a span and a token less go for every two of them.

    Source: Raffel et al. (2020), arXiv 1910.10683, sections 3.1.4 and 3.3, and `random_spans_noise_mask` of its published code. Departures:
    documents do not see each other and number their sentinels from 0; the `<|begin|>` of a document and its `<|end|>` stay; a span may stand
    at the very beginning, and none need stand at the end.
    """

    gives_passage: ClassVar[bool] = True

    rate: Annotated[float, Gt(0), Lt(1)] = 0.15
    """Share of the tokens that is cut out."""
    mean_length: Annotated[float, Ge(1)] = 3.0
    """Tokens in a span on average."""

    def cut(self, length: int) -> tuple[int, int]:
        """How many of so many tokens are cut out, in how many spans."""
        tokens = min(max(round(length * self.rate), 1), length - 1) if length > 1 else 0
        return tokens, min(max(round(tokens / self.mean_length), 1), tokens)

    def raw_time(self, time: int) -> int:
        length = time
        while self._passage(length + 1) <= time:
            length += 1
        return length

    def _passage(self, length: int) -> int:
        tokens, spans = self.cut(length)
        return length - tokens + spans

    def text_time(self, time: int) -> int:
        return sum(self.cut(self.raw_time(time))) + 1

    def longest(self, time: int) -> int:
        return max(time, self.text_time(time))

    def roles(self, time: int) -> tuple[str, ...]:
        return tuple(sentinel(number) for number in range(self.cut(self.raw_time(time))[1]))

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        count, raw = rows.tokens.shape
        passages = Rows.empty(count, self._passage(raw), vocabulary.pad)
        texts = Rows.empty(count, sum(self.cut(raw)) + 1, vocabulary.pad)
        marks = np.array([vocabulary.id(sentinel(number)) for number in range(self.cut(raw)[1])], np.int64)
        for i in range(count):
            try:
                self._corrupt(rows, i, task_rng(self, seed, first_row + i), marks, vocabulary, passages, texts)
            except _TooShortError:
                rule = f"holds documents too short to cut {self.rate:.0%} out of them"
                raise DataError(f"row {first_row + i} {rule}; drop short documents, or lower {self.kind()}.rate") from None
        segments = torch.from_numpy(passages.segments)
        passage = Passage(torch.from_numpy(passages.tokens), SequenceLayout.packed(segments, causal=False))
        text = batch_of(texts, first_row, SequenceLayout.packed(torch.from_numpy(texts.segments)))
        return Batch(text.tokens, text.targets, text.loss_weight, text.layout, first_row, passage)

    def _corrupt(
        self, rows: Rows, i: int, rng: np.random.Generator, marks: np.ndarray, vocabulary: Vocabulary, passages: Rows, texts: Rows
    ) -> None:
        """Writes one row's passage and text, with `marks` for spans 0, 1, …"""
        tokens, segments = rows.tokens[i], rows.segments[i]
        documents = list(stretches(segments))
        bodies = [_body(tokens, start, stop, vocabulary) for start, stop in documents]
        read, written = 0, 0
        for (start, stop), (low, high), (cut, spans) in zip(documents, bodies, self._share(documents, bodies, rng), strict=True):
            begins, ends = (spans_of(high - low, cut, spans, rng) + low - start).T
            document, steps = tokens[start:stop].copy(), np.zeros(stop - start + 1, np.int64)
            steps[begins], steps[ends] = 1, -1  # spans stand apart, so that no place is both
            gone = np.cumsum(steps[:-1]) > 0
            lost = np.insert(document[gone], np.cumsum(ends - begins) - (ends - begins), marks[:spans])
            target = np.append(lost, vocabulary.end) if spans else lost
            document[begins], gone[begins] = marks[:spans], False
            passage = document[~gone]
            here, there = slice(read, read + len(passage)), slice(written, written + len(target))
            read, written = here.stop, there.stop
            if read > passages.tokens.shape[1] or written > texts.tokens.shape[1]:
                raise _TooShortError
            passages.tokens[i, here], passages.segments[i, here] = passage, segments[start]
            texts.targets[i, there], texts.segments[i, there], texts.loss_weight[i, there] = target, segments[start], 1
            texts.tokens[i, there] = np.concatenate([[vocabulary.begin], target[:-1]])[: len(target)]

    def _share(self, documents: list[tuple[int, int]], bodies: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
        """Tokens and spans to be cut out of each document of a row: as many as the row's length asks for, as far as there is room."""
        room = np.array([high - low for low, high in bodies])
        cut, spans = self.cut(sum(stop - start for start, stop in documents))
        some = np.argsort(-room, kind="stable")[: max(spans, 1)]  # documents that get a span at all
        some = some[room[some] > 1]
        while len(some) > 1 and spans - len(some) // 2 < len(some):
            some = some[:-1]
        if not len(some):
            return [(0, 0)] * len(room)
        less = len(some) // 2
        cut, spans = cut - less, spans - less
        by, tokens = np.zeros_like(room), np.zeros_like(room)
        by[some] = 1 + apportion(spans - len(some), room[some], (room[some] - 1) // 2, rng)
        tokens[some] = by[some] + apportion(cut - int(by.sum()), room[some], room[some] - 2 * by[some] + 1, rng)
        return list(zip(tokens.tolist(), by.tolist(), strict=True))


class _TooShortError(Exception):
    """A row's documents leave no room for what is to be cut out."""


def _body(tokens: np.ndarray, start: int, stop: int, vocabulary: Vocabulary) -> tuple[int, int]:
    """A document without the control tokens at its two ends."""
    low = start + (not vocabulary.text[tokens[start]])
    return low, max(low, stop - (not vocabulary.text[tokens[stop - 1]]))


def apportion(total: int, sizes: np.ndarray, most: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers that add up to `total` and are in proportion to `sizes`, as far as each may be no more than its `most`.

    Remainders go by chance, to the larger sooner.
    """
    parts = np.zeros(len(sizes), np.int64)
    while (left := min(total, int(most.sum())) - int(parts.sum())) > 0:
        open_sizes = np.where(parts < most, sizes, 0)
        share = left * open_sizes / open_sizes.sum()
        parts = np.minimum(parts + np.floor(share).astype(np.int64), most)
        left = min(total, int(most.sum())) - int(parts.sum())
        open_ = np.flatnonzero(parts < most)
        if left and len(open_):
            chances = sizes[open_] / sizes[open_].sum()
            parts[rng.choice(open_, size=min(left, len(open_)), replace=False, p=chances)] += 1
    return parts


def spans_of(length: int, cut: int, spans: int, rng: np.random.Generator) -> np.ndarray:
    """(spans, 2) begins and ends of spans that together have `cut` of `length` tokens, at least one token apart; any such as likely as any."""
    if not spans:
        return np.empty((0, 2), np.int64)
    sizes = composition(cut, spans, rng)
    gaps = composition(length - cut + 2, spans + 1, rng)
    gaps[[0, -1]] -= 1  # nothing need stand before the first and behind the last
    ends = np.cumsum(gaps[:-1] + sizes)
    return np.stack([ends - sizes, ends], axis=1)


def composition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """(parts,) whole numbers ≥ 1 that add up to `total`; any such as likely as any."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
