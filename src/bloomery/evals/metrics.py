"""Figures of predictions beside what was expected: accuracy, F1, mean average precision, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, Num


@dataclass(frozen=True)
class F1:
    """F1 = 2·precision·recall / (precision + recall), 0 where a class is neither expected nor predicted.

    Attributes:
        per_class: of each class.
        macro: their mean, each class counting alike; over classes that are expected or predicted somewhere.
        weighted: their mean, each counting by how often it is expected.
        micro: over all classes together; where each place has one class, this is the accuracy.

    Source: van Rijsbergen (1979), "Information Retrieval", chapter 7; averages as in Sokolova and Lapalme (2009).
    """

    per_class: tuple[float, ...]
    macro: float
    weighted: float
    micro: float


def accuracy(expected: Integer[np.ndarray, " n"], predicted: Integer[np.ndarray, " n"]) -> float:
    """The share of equal pairs."""
    return float((expected == predicted).mean())


def f1(expected: Integer[np.ndarray, " n"], predicted: Integer[np.ndarray, " n"], classes: int) -> F1:
    """F1 of classes 0 … classes − 1."""
    table = np.bincount(classes * expected + predicted, minlength=classes**2).reshape(classes, classes)  # (expected, predicted)
    right, asked, said = np.diag(table), table.sum(1), table.sum(0)
    scores = 2 * right / np.maximum(asked + said, 1)
    seen = asked + said > 0
    return F1(tuple(scores.tolist()), float(scores[seen].mean()), float((scores * asked).sum() / asked.sum()), float(right.sum() / asked.sum()))


def mean_average_precision(scores: Float[np.ndarray, "n choices"], expected: Integer[np.ndarray, " n"], k: int = 3) -> float:
    """MAP@k where one choice of each row is right:  mean over rows of 1 / rank of the right one, 0 where that is beyond k.

    Choices are ranked by their scores, of equal ones the first one first.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = (order == expected[:, None]).argmax(1) + 1
    return float(np.where(ranks <= k, 1 / ranks, 0.0).mean())


def pearson(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " n"]) -> float:
    """Pearson's correlation; 0 where one of them does not vary."""
    a, b = (x - x.mean() for x in (a.astype(np.float64), b.astype(np.float64)))
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def spearman(a: Num[np.ndarray, " n"], b: Num[np.ndarray, " n"]) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal numbers having the mean of theirs."""
    return pearson(ranks(a), ranks(b))


def retrieved(
    asked: Float[np.ndarray, "n d"], candidates: Float[np.ndarray, "m d"], right: Integer[np.ndarray, " n"], at_once: int = 1024
) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
    """Where the right one of some candidates stands, by the product of its vector with that of what is asked: its rank, from 1, and the nearest
    one. Those that are as near as the right one count as nearer, so that vectors that are all the same find nothing.

    Accuracy@1 is the share of ranks of 1; the mean reciprocal rank, MRR, the mean of 1 / rank.

    Args:
        asked: a vector in each row.
        candidates: likewise.
        right: the number of the right candidate of each.
        at_once: rows of `asked` that are compared at a time, which bounds the memory.

    Source: Voorhees (1999), "The TREC-8 Question Answering Track Report", section 3.
    """
    ranked, nearest = np.empty(len(asked), np.int64), np.empty(len(asked), np.int64)
    for start in range(0, len(asked), at_once):
        here = slice(start, start + at_once)
        products = asked[here] @ candidates.T
        ranked[here] = (products >= np.take_along_axis(products, right[here, None], 1)).sum(1)
        nearest[here] = products.argmax(1)
    return ranked, nearest


def ranks(numbers: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The rank of each number from 1, equal ones having the mean of theirs."""
    _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[which]


def spans_f1(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of whole spans of tags such as "B-PER", "I-PER", "O": a span is right where type, first and last word are.

    Source: Tjong Kim Sang and De Meulder (2003), CoNLL-2003, arXiv cs/0306050, as its `conlleval` counts: an I- behind another type begins a
    span.
    """
    pairs = list(zip(expected, predicted, strict=True))
    wanted = {(row, *span) for row, (tags, _) in enumerate(pairs) for span in spans(tags)}
    found = {(row, *span) for row, (_, tags) in enumerate(pairs) for span in spans(tags)}
    right = len(wanted & found)
    precision, recall = right / max(1, len(found)), right / max(1, len(wanted))
    return {"precision": precision, "recall": recall, "f1": 2 * right / max(1, len(wanted) + len(found))}


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first, end) of the spans of a row of tags."""
    found: list[tuple[str, int, int]] = []
    begun: tuple[str, int] | None = None
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        goes_on = begun is not None and prefix == "I" and kind == begun[0]
        if begun is not None and not goes_on:
            found.append((*begun, place))
            begun = None
        if not goes_on and prefix in ("B", "I"):
            begun = kind, place
    return found


def plain(figures: F1, names: Sequence[str]) -> dict[str, Any]:
    """F1 by name, for a table."""
    return {"f1_macro": figures.macro, "f1_weighted": figures.weighted, "f1": dict(zip(names, figures.per_class, strict=True))}
