"""`TellLabels`: heads tell the labels that rows bring; and `BothWays`, rows that an encoder reads as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch

from bloomery.data.batch import Batch, Labels
from bloomery.data.source import Rows, Told
from bloomery.data.tasks.task import NextToken, RowTask, batch_of
from bloomery.data.tasks.vocabulary import Vocabulary, segment_starts
from bloomery.nn.layout import SequenceLayout


class BothWays(RowTask):
    """Rows as they are, each token seeing all of its document; no token is to be told."""

    both_ways: ClassVar[bool] = True

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        layout = SequenceLayout.packed(torch.from_numpy(rows.segments), causal=False)
        return batch_of(rows._replace(loss_weight=np.zeros_like(rows.loss_weight)), first_row, layout)


class TellLabels(RowTask):
    """Heads tell the labels of documents, or of their tokens; another task goes on with the rows.

    `<|begin|>` begins a document, also within a row's: the choices of a question are documents, none of which sees the others. What follows
    the first `<|end|>` of a document is part 1 of the layout, as the second text of a pair is. Rows of a mixture that bring no labels for a
    head have none for it, so that several heads, each with a corpus of its own, learn at once.
    """

    classes: tuple[str, ...] = ()
    """Heads whose labels are classes, or numbers of choices."""
    numbers: tuple[str, ...] = ()
    """Heads whose labels are numbers."""
    matches: tuple[str, ...] = ()
    """Heads that tell which of the documents that follow goes with one; its label is how many they are, and the first is the right one."""
    then: RowTask = NextToken()
    """What else is learnt from the rows, and which way they are read: `NextToken()` by a decoder, `BothWays()` by an encoder, which learns
    nothing else then, or `MaskedTokens()`."""
    learns: Literal["all", "unlabelled"] = "all"
    """The rows that `then` is learnt from: all, or those without labels alone, where texts that have labels are none to learn to write."""

    def check(self) -> None:
        if not self.labelled:
            raise self.refuse("classes", "and numbers and matches name no head; name those of the model's whose labels the rows bring")

    @property
    def both_ways(self) -> bool:  # type: ignore[override]
        """Whether the other task does."""
        return self.then.both_ways

    @property
    def gives_draws(self) -> bool:  # type: ignore[override]
        """Whether the other task does."""
        return self.then.gives_draws

    @property
    def labelled(self) -> tuple[str, ...]:
        return (*self.classes, *self.numbers, *self.matches, *self.then.labelled)

    def roles(self, time: int) -> tuple[str, ...]:
        return self.then.roles(time)

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        apart = documents_apart(rows, vocabulary)
        begins = segment_starts(apart.segments)
        ended = np.cumsum(rows.tokens == vocabulary.end, axis=1) - (rows.tokens == vocabulary.end)  # before each place, in its row
        before = np.maximum.accumulate(np.where(begins, ended, 0), axis=1)  # before the document that it is in
        parts = np.minimum(ended - before, 1) * (rows.segments > 0)
        batch = self.then.batch(apart, first_row, seed, vocabulary)
        if self.learns == "unlabelled":
            labelled = np.zeros(len(rows.tokens), bool)
            for _, known in rows.labels.values():
                labelled |= known.any(1)
            batch = replace(batch, loss_weight=batch.loss_weight * torch.from_numpy(~labelled)[:, None])
        nothing = np.zeros(rows.tokens.shape, np.float32)
        told = {head: rows.labels.get(head, Told(nothing, nothing)) for head in (*self.classes, *self.numbers, *self.matches)}
        labels = {
            head: Labels(torch.from_numpy(targets if head in self.numbers else targets.astype(np.int64)), torch.from_numpy(known))
            for head, (targets, known) in told.items()
        }
        positions = batch.layout.positions * torch.from_numpy(apart.segments > 0)  # padding may be longer than a model can read
        layout = replace(batch.layout, positions=positions, parts=torch.from_numpy(parts))
        return replace(batch, layout=layout, labels={**batch.labels, **labels})


def documents_apart(rows: Rows, vocabulary: Vocabulary) -> Rows:
    """Rows in which every `<|begin|>` begins a document that sees none before it, and is not told from it."""
    begins = (rows.tokens == vocabulary.begin) | segment_starts(rows.segments)
    inner = np.roll(~begins, -1, axis=1)
    inner[:, -1] = True
    segments = np.where(rows.segments > 0, np.cumsum(begins, axis=1), 0)
    return rows._replace(segments=segments, loss_weight=np.where(inner, rows.loss_weight, 0).astype(np.float32))
