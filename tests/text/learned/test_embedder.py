"""Embedders: unit vectors, the same for a text wherever it stands, nearer for texts that share words or company."""

import numpy as np
import pyarrow as pa
import pytest

from bloomery.core.errors import ArtifactError
from bloomery.text.learned import features
from bloomery.text.learned.embedder import Embedder, HashedEmbedder, directions, known, times
from bloomery.text.learned.features import Bags, bags

TEXTS = ["the cat sat on the mat", "the cat sat on a mat", "prices of copper fell sharply", "", "\x00 \n", "日本語の文", "cat"]


@pytest.fixture
def trained():
    columns = np.unique(bags(pa.array(TEXTS), 1 << 22).indices)
    return Embedder(columns, np.random.default_rng(0).standard_normal((len(columns), 5)).astype(np.float32), 1)


@pytest.fixture(params=["hashed", "trained"])
def embedder(request, trained):
    return HashedEmbedder(dim=64) if request.param == "hashed" else trained


def test_vectors_have_unit_length(embedder):
    vectors = embedder.embed(pa.array(TEXTS))
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert np.allclose((vectors**2).sum(1), 1, atol=1e-6)
    assert embedder.embed(pa.array([], pa.string())).shape == (0, embedder.dim)


def test_a_text_without_words_lies_on_the_first_axis(embedder):
    assert (embedder.embed(pa.array(["", "\x00 \n"]))[:, 0] == 1).all()


def test_a_vector_does_not_depend_on_the_texts_beside_it(embedder, monkeypatch):
    together = embedder.embed(pa.array(TEXTS))
    assert np.array_equal(together, np.concatenate([embedder.embed(pa.array([t])) for t in TEXTS]))
    monkeypatch.setattr(features, "PORTION_BYTES", 30)
    assert np.array_equal(together, embedder.embed(pa.array(TEXTS)))


def test_texts_that_share_words_are_near():
    one, same, other = HashedEmbedder().embed(pa.array(TEXTS[:3]))
    assert one @ same > 0.7 > 0.3 > abs(one @ other)


def test_products_estimate_the_cosine_of_the_features():
    rng = np.random.default_rng(1)
    texts = [" ".join(f"w{i}" for i in sorted(rng.choice(60, 40, replace=False))) for _ in range(30)]
    vectors = HashedEmbedder(dim=2048).embed(pa.array(texts)).astype(np.float64)
    bag = bags(pa.array(texts), 1 << 22, word_ngrams=2, char_ngrams=(4, 4))
    bag = bag._replace(counts=1 + np.log(bag.counts)).unit()
    rows = [dict(zip(*(c[a:b].tolist() for c in bag[:2]), strict=True)) for a, b in zip(bag.offsets, bag.offsets[1:], strict=False)]
    true = np.array([[sum(n * other.get(k, 0) for k, n in row.items()) for other in rows] for row in rows])
    assert np.abs(vectors @ vectors.T - true).max() < 5 / 2048**0.5


def test_seeds_differ():
    assert abs(float((HashedEmbedder(seed=0).embed(pa.array(TEXTS[:1])) * HashedEmbedder(seed=1).embed(pa.array(TEXTS[:1]))).sum())) < 0.5


def chunk(dense):
    row, column = np.nonzero(dense)
    offsets = np.concatenate([[0], np.cumsum((dense != 0).sum(1))])
    return lambda: Bags(column, dense[row, column].astype(np.float32), offsets)


def test_directions_are_those_of_the_whole_decomposition():
    rng = np.random.default_rng(0)
    dense = (rng.random((80, 3)) @ rng.random((3, 30)) + 0.01 * rng.random((80, 30))).astype(np.float32) * (rng.random((80, 30)) < 0.6)
    vectors, strengths = directions([chunk(dense[:50]), chunk(dense[50:])], 30, 6, iterations=8, seed=0)
    _, true, right = np.linalg.svd(dense)
    assert np.allclose(strengths, true[:6], rtol=1e-3)
    assert np.allclose(np.abs((vectors[:, :3] * right[:3].T).sum(0)), 1, atol=1e-3)
    assert np.allclose(vectors.T @ vectors, np.eye(6), atol=1e-9)


def test_no_more_directions_than_there_are():
    dense = np.outer([1.0, 2, 0, 3], [1.0, 1, 0, 1, 0])
    vectors, strengths = directions([chunk(dense)], 5, 4, iterations=1, seed=0)
    assert vectors.shape == (5, 1)
    assert strengths[0] == pytest.approx(np.sqrt(14 * 3))


def test_sparse_rows_times_a_matrix():
    dense, matrix = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 3]], np.float32), np.arange(6.0).reshape(3, 2)
    assert np.allclose(times(chunk(dense)(), matrix), dense @ matrix)


def test_only_known_columns_count():
    bag = known(Bags(np.array([1, 5, 2, 5]), np.array([1, 1, 1, np.e], np.float32), np.array([0, 2, 4])), np.array([2, 5, 9]))
    assert bag.indices.tolist() == [1, 0, 1]
    assert bag.offsets.tolist() == [0, 1, 3]
    assert np.allclose(bag.counts, [1, 1, 2])


def test_what_is_saved_embeds_the_same(tmp_path, trained):
    trained.save(tmp_path)
    assert np.array_equal(Embedder.load(tmp_path).embed(pa.array(TEXTS)), trained.embed(pa.array(TEXTS)))
    (tmp_path / "projection.npy").unlink()
    with pytest.raises(ArtifactError, match="does not hold an embedder"):
        Embedder.load(tmp_path)
