"""`SentenceOrder`: the halves of a document have been swapped, or have not."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from bloomery.data.batch import Batch, Labels
from bloomery.data.source import Rows
from bloomery.data.tasks.masked import MaskedTokens
from bloomery.data.tasks.task import RowTask, learnable, stretches, task_rng
from bloomery.data.tasks.vocabulary import Vocabulary, segment_starts


class SentenceOrder(RowTask):
    """Half of the documents have their two halves swapped, and a head is to tell which; another task goes on with the rows.

    A document is parted at the end of the sentence nearest to its middle, or where no sentence ends, at the word nearest to it; the control
    tokens at its two ends stay there. The halves are parts 0 and 1 of the layout, in the order in which they stand. The label (1 for
    swapped) stands at the document's first token. Documents of one word have none.

    Source: Lan et al. (2020), arXiv 1909.11942, section 3.1. Departure: no separator between the halves, which a model tells by the vectors
    of its parts; every document is parted in two, and no two are joined.
    """

    both_ways: ClassVar[bool] = True

    then: RowTask = MaskedTokens()
    """What else is learnt from the rows."""
    head: str = "order"
    """The head that is to tell, of two classes."""

    def check(self) -> None:
        if not self.then.both_ways:
            raise self.refuse("then", "does not read both ways, as the order of sentences is told; take MaskedTokens()")

    @property
    def gives_draws(self) -> bool:  # type: ignore[override]
        """Whether the other task does."""
        return self.then.gives_draws

    @property
    def labelled(self) -> tuple[str, ...]:
        return (self.head, *self.then.labelled)

    def roles(self, time: int) -> tuple[str, ...]:
        return self.then.roles(time)

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        words = vocabulary.word_starts(rows.tokens, rows.segments)
        parts, targets = np.zeros(rows.tokens.shape, np.int64), np.zeros(rows.tokens.shape, np.int64)
        known = np.zeros(rows.tokens.shape, np.float32)
        source = np.tile(np.arange(rows.tokens.shape[1]), (len(rows.tokens), 1))  # the place that each token comes from
        for i in range(len(rows.tokens)):
            rng, tokens = task_rng(self, seed, first_row + i), rows.tokens[i]
            for start, stop in stretches(rows.segments[i]):
                low = start + (not vocabulary.text[tokens[start]])
                high = max(low, stop - (not vocabulary.text[tokens[stop - 1]]))
                swapped, middle = bool(rng.integers(2)), middle_of(tokens, words[i], low, high, vocabulary)
                if middle is None:
                    continue
                if swapped:
                    source[i, low:high] = np.roll(source[i, low:high], low - middle)
                parts[i, low + high - middle if swapped else middle : stop] = 1
                targets[i, start], known[i, start] = swapped, 1
        batch = self.then.batch(moved(rows, source), first_row, seed, vocabulary)
        labels = {self.head: Labels(torch.from_numpy(targets), torch.from_numpy(known))}
        return replace(batch, layout=replace(batch.layout, parts=torch.from_numpy(parts)), labels={**batch.labels, **labels})


def middle_of(tokens: np.ndarray, words: np.ndarray, low: int, high: int, vocabulary: Vocabulary) -> int | None:
    """Where the second half of the tokens from `low` to `high` begins; None where there is but one word."""
    places = np.arange(low + 1, high)
    places = places[words[places]]
    sentences = places[vocabulary.stops[tokens[places - 1]]]
    if not len(places):
        return None
    nearest = sentences if len(sentences) else places
    return int(nearest[np.argmin(np.abs(2 * nearest - low - high))])


def moved(rows: Rows, source: np.ndarray) -> Rows:
    """The rows with each token taken from another place of its document, as if the document had been written so."""
    tokens, learnt = (np.take_along_axis(array, source, axis=1) for array in (rows.tokens, learnable(rows)))
    inner = np.roll(~segment_starts(rows.segments), -1, axis=1) & (rows.segments > 0)  # places whose document goes on behind them
    targets = np.where(inner, np.roll(tokens, -1, axis=1), rows.targets)
    weight = np.where(inner, np.roll(learnt, -1, axis=1), rows.loss_weight)
    return Rows(tokens, targets, weight.astype(np.float32), rows.segments)
