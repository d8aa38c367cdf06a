"""What the head of a model makes of labelled rows, each as if it were read alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Integer

from bloomery.data import Fit, Packed, TellLabels, TokenShards, Vocabulary
from bloomery.models import EnsembleModel, TaskModel

TOKENS_AT_ONCE = 16_384


class Read(NamedTuple):
    """What a head makes of a row.

    Attributes:
        id: of the row.
        tokens: of the row.
        scores: of the head, by place, where a document begins or a label stands.
        labels: by place.
    """

    id: str
    tokens: Integer[np.ndarray, " time"]
    scores: Mapping[int, Float[np.ndarray, " scores"]]
    labels: Mapping[int, float]


class Told(NamedTuple):
    """What a head says at a place that has a label: the row's id, the place in it, the label, and the scores."""

    id: str
    place: int
    expected: float
    scores: Float[np.ndarray, " scores"]


def at_labels(rows: Sequence[Read]) -> list[Told]:
    """What was said at each label."""
    return [Told(row.id, place, label, row.scores[place]) for row in rows for place, label in row.labels.items()]


def read(
    model: TaskModel | EnsembleModel, shards: TokenShards, task: TellLabels, vocabulary: Vocabulary, time: int, device: str = "cpu"
) -> list[Read]:
    """What the one head of a task makes of every row that has a label, in order.

    Args:
        model: with that head; in evaluation mode.
        shards: with labels for it.
        task: which tells them.
        vocabulary: of the shards.
        time: tokens per row of the batches; no document may be longer.
        device: of the model.
    """
    number = {shards.id(document): document for document in range(len(shards))}
    return sorted(_read(model, shards, task, vocabulary, time, device), key=lambda row: number[row.id])


@torch.no_grad()
def _read(
    model: TaskModel | EnsembleModel, shards: TokenShards, task: TellLabels, vocabulary: Vocabulary, time: int, device: str
) -> Iterator[Read]:
    (head,) = task.labelled
    packed, at_once = Packed(shards, Fit(), time=time, seed=0), max(1, TOKENS_AT_ONCE // time)
    for first_row, rows in packed.rows_once(at_once):
        batch = task.batch(rows, first_row, 0, vocabulary).to(device)
        scores, labels = model.scores(batch.tokens, batch.layout)[head].float().cpu().numpy(), batch.labels[head].to("cpu")
        for span in packed.documents(first_row, len(rows.tokens)):
            row, here = span.row - first_row, slice(span.place, span.place + span.stop - span.start)
            told = {place: float(labels.targets[row, span.place + place]) for place in labels.loss_weight[row, here].nonzero()[:, 0].tolist()}
            tokens = rows.tokens[row, here].copy()
            places = {*told, *np.flatnonzero(tokens == vocabulary.begin).tolist()}
            yield Read(span.id, tokens, {place: scores[row, span.place + place].copy() for place in sorted(places)}, told)
