"""How good scores are: what part they order rightly, and whether they are the probabilities that they claim to be."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 10


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """How often a positive example scores above a negative one, ties counting half; NaN where one of the two is missing.

    Source: Mann & Whitney (1947); the area under the ROC curve.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def f1(guessed: np.ndarray, positive: np.ndarray) -> float:
    """2 · hits / (guesses + positives); 0 where there are neither."""
    return float(2 * (guessed & positive).sum() / max(guessed.sum() + positive.sum(), 1))


def calibration(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> tuple[float, list[dict[str, Any]]]:
    """The expected calibration error, and what it is made of.

    Args:
        scores: (n,) claimed probabilities.
        positive: (n,) bool.
        weights: (n,) what each example counts.

    Returns:
        Σ over the tenths of the scores of their share · |mean score − share of positives|; and for each tenth that is not empty: examples, mean
        score, share of positives. Source: Guo et al. (2017), arXiv:1706.04599.
    """
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    total, claimed, true = (np.bincount(bins, w, BINS) for w in (weights, weights * scores, weights * positive))
    error = float(np.abs(claimed - true).sum() / weights.sum())
    count = np.bincount(bins, minlength=BINS)
    table = [
        {"examples": int(count[i]), "mean_score": round(float(claimed[i] / total[i]), 4), "share": round(float(true[i] / total[i]), 4)}
        for i in np.flatnonzero(count)
    ]
    return error, table
