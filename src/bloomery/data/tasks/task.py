"""`RowTask`: how the rows of a source become what a model reads and what it is to predict; and `Posed`, a source under a task.

    NextToken()        each token from those before it
    PrefixLM()         the rest of a document from its beginning, which is read both ways
    MaskedTokens()     hidden tokens from what is left around them
    SpanCorruption()   the spans that were cut out of a passage, by an encoder–decoder
    FromPassage()      what is to be learnt of a document from what comes before it, by an encoder–decoder
    FromPrefix()       the same in one row, what comes before being read both ways
    Compared()         which of two completions of a prompt is the better one
    Ordered()          the order of several completions of a prompt
    Unpaired()           whether a completion is good
    SentenceOrder()    whether the halves of a document have been swapped, beside another task

A row of a task is a pure function of (row, seed): neither micro-batch nor rank enters it, and a resumed run needs nothing but the row's number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int64

from bloomery.core.config import Config
from bloomery.core.rng import numpy_rng
from bloomery.data.batch import Batch
from bloomery.data.source import Packed, Rows, Source, Span, Supply
from bloomery.data.tasks.vocabulary import Vocabulary, segment_starts
from bloomery.nn.layout import SequenceLayout


class RowTask(Config):
    """What is to be learnt from rows of documents, as a value."""

    both_ways: ClassVar[bool] = False
    """Whether tokens see what comes after them, so that it takes a model that reads both ways."""
    sees_prefix: ClassVar[bool] = False
    """Whether some tokens are seen by those before them, so that it takes mixers that work both ways."""
    gives_passage: ClassVar[bool] = False
    """Whether there is a passage, so that it takes an encoder–decoder."""
    gives_draws: ClassVar[bool] = False
    """Whether batches have numbers to sample hidden tokens by."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Labels of rows that it reads itself, so that no head is asked for them."""
    every_token: ClassVar[bool] = False
    """Whether each token is predicted once, from what comes before it, so that bits per byte can be told."""

    @property
    def labelled(self) -> tuple[str, ...]:
        """The heads for which it gives labels."""
        return ()

    def roles(self, time: int) -> tuple[str, ...]:
        """The roles of the ids that it needs beside a tokenizer's usual ones, for rows of `time` tokens."""
        return ()

    def raw_time(self, time: int) -> int:
        """Tokens in the row of a source that fills a row of `time` tokens."""
        return time

    def text_time(self, time: int) -> int:
        """Places of the text that is predicted, where rows have `time`."""
        return time

    def longest(self, time: int) -> int:
        """The most tokens in a row that a model has to read, where rows have `time`."""
        return time

    @abstractmethod
    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        """The batch that rows of `raw_time` tokens become.

        Args:
            rows: as a source gives them.
            first_row: the number of the first one.
            seed: of whatever is drawn.
            vocabulary: of the rows' ids.
        """


class NextToken(RowTask):
    """Each token from those before it: rows as they are."""

    every_token: ClassVar[bool] = True

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        return batch_of(rows, first_row, SequenceLayout.packed(torch.from_numpy(rows.segments)))


class PrefixLM(RowTask):
    """The rest of each document from its beginning, which all of it sees, as does the beginning itself.

    The beginning of a document of n tokens in a row has 1 to n − 1 of them, each length as likely as any other; the loss is on the rest.

    Source: Raffel et al. (2020), arXiv 1910.10683, section 3.2.1 and figure 4, on packed rows.
    """

    sees_prefix: ClassVar[bool] = True

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        prefix = np.zeros(rows.segments.shape, bool)
        for i in range(len(prefix)):
            rng = task_rng(self, seed, first_row + i)
            for start, stop in stretches(rows.segments[i]):
                if stop - start > 1:
                    prefix[i, start : start + int(rng.integers(1, stop - start))] = True
        told = prefix & np.pad(prefix[:, 1:], ((0, 0), (0, 1)))  # whose target is in the prefix; that of its last token is not
        weight = np.where(told, 0, rows.loss_weight).astype(np.float32)
        layout = replace(SequenceLayout.packed(torch.from_numpy(rows.segments)), prefix=torch.from_numpy(prefix))
        return batch_of(rows._replace(loss_weight=weight), first_row, layout)


class Posed(Source):
    """The rows of a source under a task.

    Args:
        source: of rows of `task.raw_time(time)` tokens.
        task: what is to be learnt from them.
        time: tokens in a row as the model reads it.
        seed: of what the task draws.
        vocabulary: of the source's ids.
    """

    def __init__(self, source: Source, task: RowTask, *, time: int, seed: int, vocabulary: Vocabulary) -> None:
        assert source.time == task.raw_time(time)
        self.source, self.task, self.time, self.seed, self.vocabulary = source, task, time, seed, vocabulary
        self.vocab_size = max([source.vocab_size, *(vocabulary.id(role) + 1 for role in task.roles(time))])

    def batch(self, first_row: int, rows: int) -> Batch:
        return self.task.batch(self.source.rows(first_row, rows), first_row, self.seed, self.vocabulary)

    def rows(self, first_row: int, rows: int) -> Rows:
        """The rows before they are put as a task."""
        return self.source.rows(first_row, rows)

    def documents(self, first_row: int, rows: int) -> list[Span]:
        """Which documents are in these rows, by row and by their place before the rows are put as a task."""
        return self.source.documents(first_row, rows)

    def turns(self, first_row: int, rows: int) -> bool:
        return self.source.turns(first_row, rows)

    def supply(self, rows: int) -> list[Supply]:
        return self.source.supply(rows)


def once(source: Packed, task: RowTask, rows: int, seed: int, vocabulary: Vocabulary) -> Iterator[Batch]:
    """Each document exactly once under a task, `rows` rows at a time: for measuring on held-out text, the same way each time."""
    for first_row, arrays in source.rows_once(rows):
        yield task.batch(arrays, first_row, seed, vocabulary)


def batch_of(rows: Rows, first_row: int, layout: SequenceLayout) -> Batch:
    """Rows as a batch in a layout."""
    tokens, targets, weight = (torch.from_numpy(array) for array in rows[:3])
    return Batch(tokens, targets, weight, layout, first_row)


def task_rng(task: RowTask, seed: int, row: int) -> np.random.Generator:
    """The stream of what a task draws for a row."""
    return numpy_rng(task.kind(), seed, row)


def stretches(segments: Int64[np.ndarray, " time"]) -> Iterator[tuple[int, int]]:
    """First place and end of each document in a row; padding is left out."""
    starts = np.flatnonzero(segment_starts(segments[None])[0])
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(segments)], strict=True):
        if segments[start]:
            yield start, stop


def learnable(rows: Rows) -> Bool[np.ndarray, "rows time"]:
    """Which tokens are to be learnt: all real ones, or those that the corpus's mask says, as the weight of the place before tells.

    The first token of a document (or of a piece of one) has no place before it and counts as learnable.
    """
    before = np.roll(rows.loss_weight, 1, axis=1) > 0
    return (rows.segments > 0) & (before | segment_starts(rows.segments))
