"""The classifier finds the one optimum of its loss, and its measures are those of loops."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ArtifactError
from bloomery.text.learned.classifier import Classifier, Labelled, features_of, fit, log_softmax, products
from bloomery.text.learned.lbfgs import minimise
from bloomery.text.learned.metrics import auc, calibration, f1

GOOD = ["the cat sat on the mat", "a dog ran over the hill", "the hen slept on a bed", "a fox sang to the moon"]
BAD = ["buy cheap pills now", "click here to buy now", "cheap cheap watches click", "win money now click here", "pills pills pills"]
BUCKETS = 1 << 8


def examples(cut=None):
    features, labels = features_of(pa.array(GOOD + BAD), BUCKETS, 1, None), np.array([0] * len(GOOD) + [1] * len(BAD))
    if cut is None:
        return [lambda: Labelled(features, labels)]
    rows = [np.arange(cut), np.arange(cut, len(labels))]
    return [lambda r=r: Labelled(features.take(r), labels[r]) for r in rows]


def test_minimise_solves_a_quadratic():
    rng = np.random.default_rng(0)
    half, goal = rng.standard_normal((20, 20)), rng.standard_normal(20)
    matrix = half @ half.T + np.eye(20)

    def function(x):
        return float((x - goal) @ matrix @ (x - goal) / 2), matrix @ (x - goal)

    found, steps = minimise(function, np.zeros(20), max_iterations=200, tolerance=1e-9)
    assert np.allclose(found, goal, atol=1e-6)
    assert 5 < steps < 200
    assert minimise(function, goal, max_iterations=5)[1] == 0


def test_the_gradient_is_zero_where_the_training_stops():
    weights, biases, _ = fit(examples(), 2, BUCKETS, l2=1e-2, max_iterations=500)
    features, labels = examples()[0]()
    each = 1 / (2 * np.bincount(labels)[labels])
    dense = np.zeros((len(labels), BUCKETS))
    dense[features.rows(), features.indices] = features.counts
    errors = (np.exp(log_softmax(dense @ weights + biases)) - np.eye(2)[labels]) * each[:, None]
    assert np.abs(dense.T @ errors + 1e-2 * weights).max() < 1e-4
    assert np.abs(errors.sum(0)).max() < 1e-4


def test_chunks_do_not_show():
    whole, cut = (fit(examples(c), 2, BUCKETS, l2=1e-3, max_iterations=100)[0] for c in (None, 3))
    assert np.allclose(whole, cut, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("l2", [1e-2, 1e-4])
def test_it_equals_scikit_learn(l2):
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = examples()[0]()
    labels = np.where(np.arange(len(labels)) % 4 == 3, 2, labels)  # three kinds, mixed
    dense = np.zeros((len(labels), BUCKETS))
    dense[features.rows(), features.indices] = features.counts
    peer = linear_model.LogisticRegression(C=1 / (l2 * len(labels)), class_weight="balanced", tol=1e-9, max_iter=10_000).fit(dense, labels)
    weights, biases, _ = fit([lambda: Labelled(features, labels)], 3, BUCKETS, l2=l2, max_iterations=1000)
    assert np.allclose(np.exp(log_softmax(products(features, weights) + biases)), peer.predict_proba(dense), atol=2e-3)


def test_kinds_count_the_same_however_many_examples_they_have():
    features, labels = features_of(pa.array(["a", "a", "a", "a"]), BUCKETS, 1, None), np.array([0, 1, 1, 1])
    weights, biases, _ = fit([lambda: Labelled(features, labels)], 2, BUCKETS, l2=1e-3, max_iterations=100)
    assert np.allclose(np.exp(log_softmax(products(features, weights) + biases)), 0.5, atol=1e-3)


def test_what_is_saved_scores_the_same(tmp_path):
    weights, biases, _ = fit(examples(), 2, BUCKETS, l2=1e-3, max_iterations=100)
    model = Classifier(("good", "bad"), 1, None, weights, biases)
    model.save(tmp_path)
    texts = pa.array(["the cat ran", "buy pills", "", "zzz"])
    scores = Classifier.load(tmp_path).scores(texts)
    assert np.array_equal(scores, model.scores(texts))
    assert np.allclose(scores.sum(1), 1)
    assert scores[0, 0] > 0.7 > 0.3 > scores[1, 0]
    assert scores.shape == (4, 2)
    assert model.scores(pa.array([], pa.string())).shape == (0, 2)


def test_a_score_does_not_depend_on_the_texts_beside_it():
    weights, biases, _ = fit(examples(), 2, BUCKETS, l2=1e-3, max_iterations=20)
    model = Classifier(("good", "bad"), 1, None, weights, biases)
    assert np.array_equal(model.scores(pa.array(GOOD)), np.concatenate([model.scores(pa.array([t])) for t in GOOD]))


def test_a_torn_folder_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"classifier\.json"):
        Classifier.load(tmp_path)
    (tmp_path / "classifier.json").write_text("{}")
    with pytest.raises(ArtifactError, match="does not hold a classifier"):
        Classifier.load(tmp_path)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs(rows):
    scores, positive = np.array([float(s) for s, _ in rows]), np.array([p for _, p in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(np.mean(pairs)) if pairs else np.isnan(auc(scores, positive))


def test_f1_and_calibration():
    guessed, positive = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert f1(guessed, positive) == 0.5
    error, table = calibration(np.array([0.05, 0.05, 0.95, 1.0]), np.array([False, True, True, True]), np.ones(4))
    assert table == [{"examples": 2, "mean_score": 0.05, "share": 0.5}, {"examples": 2, "mean_score": 0.975, "share": 1.0}]
    assert error == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)
