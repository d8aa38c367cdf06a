"""`Compared`, `Ordered`, `Unpaired`: rows of completions, each a document that does not see the others, for losses of preferences."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from bloomery.data.batch import Batch, Labels
from bloomery.data.source import Rows, Told
from bloomery.data.tasks.labels import documents_apart
from bloomery.data.tasks.task import RowTask
from bloomery.data.tasks.task import batch_of as plain_batch
from bloomery.data.tasks.vocabulary import Vocabulary, segment_starts
from bloomery.nn.layout import SequenceLayout

WORTH = "worth"
"""The label of what a completion is worth: its rating, its place in a ranking, or whether it is good; at each token that it says."""


class OfCompletions(RowTask):
    """What tasks of completions have in common: what counts of each document is what its completion says."""

    reads: ClassVar[frozenset[str]] = frozenset({WORTH})

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        return batch_of(documents_apart(learnt_where_labelled(rows), vocabulary), first_row)


class Compared(OfCompletions):
    """Rows of `Pairs`, for losses that compare their sides: the documents of a row are pairs, one behind the other, the better side of each
    first.
    """


class Ordered(OfCompletions):
    """Rows of `Rankings`, for losses of their order: the documents of a row are rankings, one behind the other, the best of each first."""


class Unpaired(OfCompletions):
    """Rows of `Verdicts`, for losses that ask how likely completions are that do not belong to a prompt: behind the documents of a row stand
    as many more, each prompt with the completion of the document before it, the first one with that of the last. They have no verdict. Where
    a row has one document only, there is none.

    A row has as much room for them as for the documents themselves.

    Source: Ethayarajh et al. (2024), KTO, arXiv 2402.01306, section 4.1, whose micro-batch is a row here.
    """

    def raw_time(self, time: int) -> int:
        return time // 2

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        rows = learnt_where_labelled(rows)
        count, time = rows.tokens.shape
        out, told = Rows.empty(count, 2 * time, vocabulary.pad), Told(*(np.zeros((count, 2 * time), np.float32) for _ in Told._fields))
        begins = (rows.tokens == vocabulary.begin) | segment_starts(rows.segments)
        for row in range(count):
            real = rows.segments[row] > 0
            starts = np.flatnonzero(begins[row] & real)
            spans = list(zip(starts, [*starts[1:], int(real.sum())], strict=True))
            # of each document the places before its completion, and those of it; a place counts whose next token is said
            parts = [(a, a + 1 + int(np.argmax(rows.loss_weight[row, a:b] > 0)), b) for a, b in spans]
            before = zip(parts, [parts[-1], *parts[:-1]], strict=True)
            apart = [[(a, says), (of, to)] for (a, says, _), (_, of, to) in before] if len(parts) > 1 else []
            at = 0
            for number, pieces in enumerate([*([(a, b)] for a, b in spans), *apart], start=1):
                places = np.concatenate([np.arange(a, b) for a, b in pieces])
                here = slice(at, at + len(places))
                out.tokens[row, here], out.segments[row, here] = rows.tokens[row, places], number
                out.targets[row, here] = np.append(rows.tokens[row, places[1:]], vocabulary.pad)
                said = rows.loss_weight[row, places]
                if len(pieces) > 1:
                    said[pieces[0][1] - pieces[0][0] - 1] = 1  # the completion's first token is said here, too
                elif WORTH in rows.labels:
                    for target, source in zip(told, rows.labels[WORTH], strict=True):
                        target[row, here] = source[row, places]
                out.loss_weight[row, here], at = said, at + len(places)
        return batch_of(out._replace(labels={WORTH: told}), first_row)


def batch_of(rows: Rows, first_row: int) -> Batch:
    """The batch of rows of completions, with what they are worth."""
    layout = SequenceLayout.packed(torch.from_numpy(rows.segments))
    positions = layout.positions * torch.from_numpy(rows.segments > 0)  # padding may be longer than a model can read
    layout = replace(layout, positions=positions, alike=True)
    batch, told = plain_batch(rows, first_row, layout), rows.labels.get(WORTH)
    return batch if told is None else replace(batch, labels={WORTH: Labels(*map(torch.from_numpy, told))})


def learnt_where_labelled(rows: Rows) -> Rows:
    """Rows of which those tokens are learnt that have a label, where a row has any."""
    if (told := rows.labels.get(WORTH)) is None:
        return rows
    following = np.roll(told.weight, -1, axis=1)
    following[:, -1] = 0
    labelled = told.weight.any(1, keepdims=True)
    return rows._replace(loss_weight=np.where(labelled, following * rows.loss_weight, rows.loss_weight).astype(np.float32))
