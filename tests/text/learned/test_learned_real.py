"""What learnt models make of real text."""

import csv

import numpy as np
import pyarrow as pa
import pytest

from bloomery.text.learned.classifier import Labelled, features_of, fit, products
from bloomery.text.learned.metrics import auc
from tests.text.learned.test_ngram import train

pytestmark = pytest.mark.real


def test_offensive_posts_are_told_from_others(real_data):
    with open(real_data / "E_quality/hate_offensive/labeled_data.csv", newline="") as file:
        rows = [(int(row["class"]) < 2, row["tweet"]) for row in csv.DictReader(file)]
    toxic, features = np.array([t for t, _ in rows]), features_of(pa.array([text for _, text in rows]), 1 << 18, 2, None)
    aside = np.arange(len(rows)) % 5 == 0
    learn = features.take(np.flatnonzero(~aside))
    weights, biases, _ = fit([lambda: Labelled(learn, toxic[~aside].astype(np.int64))], 2, 1 << 18, l2=1e-5, max_iterations=60)
    scores = products(features.take(np.flatnonzero(aside)), weights) + biases
    assert auc(scores[:, 1] - scores[:, 0], toxic[aside]) > 0.975


def test_a_novel_perplexes_less_than_its_words_in_disorder(real_data, tmp_path):
    paths = sorted((real_data / "A_text/english_novels_100").rglob("*.txt"))[:5]
    books = [path.read_text(encoding="utf-8-sig", errors="replace") for path in paths]
    learn = [book[i : i + 3000] for book in books[1:] for i in range(0, len(book), 3000)]
    model = train(tmp_path, learn, min_word_count=2, max_words=1 << 20, cut=500)
    read = [books[0][i : i + 3000] for i in range(30_000, 90_000, 3000)]
    disorder = [" ".join(np.random.default_rng(0).permutation(text.split())) for text in read]
    one, other = model.perplexity(pa.array(read)), model.perplexity(pa.array(disorder))
    assert one.max() < other.min()
