"""Documents of one meaning: clusters and cosines beside comparing all with all."""

import numpy as np
import pyarrow as pa
import pytest

from bloomery.core.config import Config
from bloomery.text.documents import Document, to_batch
from bloomery.text.filters import SemanticDuplicates, judge_all
from bloomery.text.filters import semantic as module


class Spoken(Config):
    """An embedder that reads the vector from the text."""

    def embed(self, texts: pa.Array) -> np.ndarray:
        vectors = np.array([[float(x) for x in text.split()] for text in texts.to_pylist()], np.float32).reshape(len(texts), -1)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def documents(*texts, name="d"):
    return to_batch([Document(f"{name}{i}", text, "s") for i, text in enumerate(texts)])


def spoken(vectors):
    return documents(*(" ".join(f"{x:.4f}" for x in vector) for vector in vectors))


def groups(count, size, dim=8, seed=0, spread=0.02):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, dim))
    return (np.repeat(centres, size, axis=0) + spread * rng.standard_normal((count * size, dim)))[rng.permutation(count * size)]


def naive(vectors, min_cosine):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [i for i in range(len(unit)) if any(unit[i] @ unit[j] >= min_cosine for j in range(i))]


@pytest.mark.parametrize("block", [3, 1024])
@pytest.mark.parametrize("per_cluster", [7, 1000])
def test_one_of_each_meaning_stays(monkeypatch, block, per_cluster):
    monkeypatch.setattr(module, "BLOCK", block)
    vectors = groups(12, 10)
    (found,) = judge_all(SemanticDuplicates(embedder=Spoken(), cluster_documents=per_cluster), [spoken(vectors)])
    gone = np.flatnonzero(found.dropped.to_pylist()).tolist()
    if per_cluster == 1000:
        assert gone == naive(vectors, 0.95)
        assert len(gone) == 108
    else:
        assert set(gone) <= set(naive(vectors, 0.95))
        assert len(gone) >= 95
    for row in found.table("f").to_pylist():
        assert row["value"] >= row["threshold"] == 0.95
        assert not found.dropped[int(row["reason"].removeprefix("means the same as d"))].as_py()


def test_the_outermost_stays_where_that_is_wanted():
    vectors = [[1, 0], [1, 0.1], [1, 0.2]]
    (found,) = judge_all(SemanticDuplicates(embedder=Spoken(), keep="outermost", min_cosine=0.97), [spoken(vectors)])
    assert found.dropped.to_pylist().count(False) == 1
    assert found.dropped[1].as_py()


def test_earlier_corpora_come_first_and_empty_texts_mean_nothing():
    filter, known = SemanticDuplicates(min_cosine=0.9), documents("A story of the sea.", name="k")
    (found,) = judge_all(filter, [documents("", "a story of the sea", "...", "another thing altogether")], [known])
    assert [(r["id"], r["reason"]) for r in found.table("f").to_pylist()] == [("d1", "means the same as k0")]


def test_same_seed_same_clusters():
    vectors = groups(40, 5, seed=3)
    filter = SemanticDuplicates(embedder=Spoken(), cluster_documents=20)
    first, second = (judge_all(filter, [spoken(vectors)])[0].dropped.to_pylist() for _ in range(2))
    assert first == second
