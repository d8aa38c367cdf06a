"""Figures are those of their definitions, word by word, and of scikit-learn and scipy where they are there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.evals.metrics import accuracy, f1, mean_average_precision, pearson, ranks, spans, spans_f1, spearman

CLASSES = 4
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30)
NUMBERS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=20)


def arrays(pairs):
    return tuple(np.array(column) for column in zip(*pairs, strict=True))


@given(PAIRS)
def test_accuracy_and_f1_are_those_of_the_definitions(pairs):
    expected, predicted = arrays(pairs)
    found = f1(expected, predicted, CLASSES)
    per_class = []
    for c in range(CLASSES):
        hits = sum(e == p == c for e, p in pairs)
        precision, recall = hits / max(1, sum(p == c for _, p in pairs)), hits / max(1, sum(e == c for e, _ in pairs))
        per_class.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert found.per_class == pytest.approx(per_class)
    seen = [c for c in range(CLASSES) if any(c in pair for pair in pairs)]
    assert found.macro == pytest.approx(sum(per_class[c] for c in seen) / len(seen))
    assert found.weighted == pytest.approx(sum(per_class[e] for e, _ in pairs) / len(pairs))
    assert found.micro == accuracy(expected, predicted) == pytest.approx(sum(e == p for e, p in pairs) / len(pairs))


@given(PAIRS)
def test_f1_is_scikit_learns(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    expected, predicted = arrays(pairs)
    found = f1(expected, predicted, CLASSES)
    for average in ("macro", "weighted", "micro"):
        assert getattr(found, average) == pytest.approx(metrics.f1_score(expected, predicted, average=average, zero_division=0))
    assert accuracy(expected, predicted) == metrics.accuracy_score(expected, predicted)


@given(st.lists(st.tuples(st.permutations(range(5)), st.integers(0, 4)), min_size=1, max_size=20), st.integers(1, 5))
def test_map_is_that_of_the_reference(rows, k):
    """The reference walks down each list of predictions, as published with the competitions that use the measure."""
    total = 0.0
    for ranked, right in rows:
        score = hits = 0.0
        for i, choice in enumerate(ranked[:k]):
            if choice == right and choice not in ranked[:i]:
                hits += 1
                score += hits / (i + 1)
        total += score
    scores = np.zeros((len(rows), 5))
    for row, (ranked, _) in enumerate(rows):
        scores[row, list(ranked)] = np.arange(5, 0, -1)
    assert mean_average_precision(scores, np.array([right for _, right in rows]), k) == pytest.approx(total / len(rows))


@given(st.lists(st.tuples(st.permutations(range(5)), st.integers(0, 4)), min_size=1, max_size=20))
def test_map_of_all_choices_is_scikit_learns_precision_of_rankings(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, right = np.array([ranked for ranked, _ in rows], np.float64), np.array([right for _, right in rows])
    wanted = metrics.label_ranking_average_precision_score(np.eye(5)[right], scores)
    assert mean_average_precision(scores, right, 5) == pytest.approx(wanted)


def test_map_at_3_of_a_case_worked_by_hand():
    scores = np.array([[0.1, 0.9, 0.5, 0.0], [0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [1.0, 1.0, 0.0, 0.0]])
    assert mean_average_precision(scores, np.array([1, 2, 3, 1]), 3) == pytest.approx((1 + 1 / 3 + 0 + 1 / 2) / 4)


@given(NUMBERS)
def test_correlations_are_those_of_the_definitions(pairs):
    a, b = arrays(pairs)
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    va, vb = sum((x - ma) ** 2 for x in a), sum((x - mb) ** 2 for x in b)
    wanted = sum((x - ma) * (y - mb) for x, y in pairs) / math.sqrt(va * vb) if va and vb else 0.0
    assert pearson(a, b) == pytest.approx(wanted)
    naive = [sum(y < x for y in a) + (sum(y == x for y in a) + 1) / 2 for x in a]
    assert ranks(a).tolist() == naive
    assert spearman(a, b) == pytest.approx(pearson(ranks(a), ranks(b)))


@given(NUMBERS)
def test_spearman_is_scipys(pairs):
    stats = pytest.importorskip("scipy.stats")
    a, b = arrays(pairs)
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_spans_begin_and_end_as_conlleval_has_them():
    tags = ["O", "B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-PER", "I-PER"]
    assert spans(tags) == [("PER", 1, 3), ("LOC", 4, 5), ("LOC", 5, 6), ("PER", 6, 8)]
    assert spans(["I-LOC", "I-LOC"]) == [("LOC", 0, 2)]
    found = spans_f1([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-LOC"]])
    assert found == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
