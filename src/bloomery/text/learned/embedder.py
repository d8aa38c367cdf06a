"""Embedders: texts as unit vectors whose products say how alike the texts are.

    embedder.json     features
    columns.npy       (features,) int64, ascending: the buckets that count
    projection.npy    (features, dim) float32: what each adds to the vector, times 1 + ln count
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Le

from bloomery.core.config import Config
from bloomery.core.errors import ArtifactError
from bloomery.core.rng import derive_seed, numpy_rng
from bloomery.store.files import read_json, write_json
from bloomery.text.learned.arrays import write_array
from bloomery.text.learned.features import Bags, bags, mixed, portions
from bloomery.text.learned.ngram import find

INDEX = "embedder.json"
BUCKETS = 1 << 22
OVERSAMPLED = 10  # vectors more than wanted, for accuracy


class Embeds(Protocol):
    """Whatever turns texts into unit vectors."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        ...

    def embed(self, texts: pa.Array) -> np.ndarray:
        """(texts, dim) float32, each row of unit length; a text without words lies on the first axis."""
        ...


class HashedEmbedder(Config):
    """Embeds by a random projection of words, pairs of words and character n-grams; needs no training.

    Each feature f counts 1 + ln(how often) and goes, with random signs, to 4 coordinates that its hash names; the sum is scaled to unit length.
    The product of two vectors is the cosine of the bags of features, off by some 1/√dim: enough to find near-copies, not for more; common words
    weigh as much as rare ones.

    Source: Charikar et al. (2002), count sketches; Weinberger et al. (2009), arXiv:0902.2206, signed feature hashing.
    """

    dim: Annotated[int, Ge(8), Le(4096)] = 256
    """Length of the vectors."""
    seed: int = 0
    """Of the projection."""

    def embed(self, texts: pa.Array) -> np.ndarray:
        """(texts, dim) float32, each row of unit length; a text without words lies on the first axis."""
        return np.concatenate([np.empty((0, self.dim), np.float32), *map(self._embed, portions(texts))])

    def _embed(self, texts: pa.Array) -> np.ndarray:
        bag = bags(texts, BUCKETS, word_ngrams=2, char_ngrams=(4, 4))
        weights, rows = 1 + np.log(bag.counts.astype(np.float64)), bag.rows()
        sums = np.zeros(len(texts) * self.dim)
        for turn in range(4):
            hashes = mixed(bag.indices.astype(np.uint64) + np.uint64(derive_seed("projection", self.seed, turn)))
            signs = 1.0 - 2.0 * (hashes >> np.uint64(63))
            at = rows * self.dim + (hashes % np.uint64(self.dim)).astype(np.int64)
            sums += np.bincount(at, weights * signs, len(sums))
        return unit(sums.reshape(len(texts), self.dim))


@dataclass(frozen=True)
class Embedder:
    """Embeds by latent semantic analysis: what occurs in the same documents points the same way.

        vector = x P, scaled to length 1,   x = 1 + ln count of each known feature

    P holds the inverse document frequencies times the leading directions of the documents that it was learnt from, so that products come as
    near to those of the whole TF-IDF vectors as they can in so few numbers.

    Attributes:
        columns: (features,) int64, ascending: the buckets that count.
        projection: (features, dim) float32.
        word_ngrams: 1 for words, 2 for pairs of neighbours too.

    Source: Deerwester et al. (1990); the directions by Halko et al. (2011), arXiv:0909.4061; departures: directions are not scaled by their
    singular values, which made retrieval and agreement with people's judgements worse.
    """

    columns: np.ndarray
    projection: np.ndarray
    word_ngrams: int

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.projection.shape[1]

    @classmethod
    def load(cls, folder: Path) -> Embedder:
        """Opens a `TrainEmbedder`'s artifact.

        Raises:
            ArtifactError: a file is missing or is not what it should be.
        """
        index = read_json(folder / INDEX)
        try:
            columns, projection = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("columns", "projection"))
            return cls(columns, projection, int(index["word_ngrams"]))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder} does not hold an embedder ({error}); delete the folder and run again") from None

    def save(self, folder: Path) -> None:
        """Writes the files that `load` reads."""
        for name, array in (("columns", self.columns), ("projection", self.projection)):
            write_array(folder / f"{name}.npy", array)
        write_json(folder / INDEX, {"word_ngrams": self.word_ngrams})

    def embed(self, texts: pa.Array) -> np.ndarray:
        """(texts, dim) float32, each row of unit length; a text without known words lies on the first axis."""
        return np.concatenate([np.empty((0, self.dim), np.float32), *map(self._embed, portions(texts))])

    def _embed(self, texts: pa.Array) -> np.ndarray:
        features = known(bags(texts, BUCKETS, word_ngrams=self.word_ngrams), self.columns)
        return unit(times(features, self.projection).astype(np.float64))


@lru_cache(maxsize=4)
def load_embedder(folder: Path) -> Embedder:
    """The embedder in a folder, opened once per process."""
    return Embedder.load(folder)


def known(bag: Bags, columns: np.ndarray) -> Bags:
    """The entries in the given columns, numbered as these are, with 1 + ln count for a count."""
    at = find(columns, bag.indices)
    here = at >= 0
    offsets = np.concatenate([[0], np.cumsum(here)])[bag.offsets]
    return Bags(at[here], 1 + np.log(bag.counts[here]), offsets)


def times(features: Bags, matrix: np.ndarray) -> np.ndarray:
    """(rows, columns of matrix): each sparse row times the matrix."""
    out = np.zeros((len(features.offsets) - 1, matrix.shape[1]), matrix.dtype)
    for row in range(len(out)):
        entries = slice(features.offsets[row], features.offsets[row + 1])
        # not BLAS, whose order of adding depends on the machine
        out[row] = np.einsum("i,ij->j", features.counts[entries].astype(matrix.dtype), matrix[features.indices[entries]])
    return out


def directions(
    chunks: Sequence[Callable[[], Bags]], features: int, dim: int, *, iterations: int, seed: int,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The leading right singular vectors and the singular values of a tall sparse matrix A, of which only a chunk is in memory.

        Q ← orthonormal basis of AᵀA Q, again and again from a random Q; then the eigenvectors of (A Q)ᵀ(A Q)

    Args:
        chunks: read rows of A; called again and again.
        features: columns of A.
        dim: vectors wanted; there are fewer where A has fewer directions.
        iterations: of the subspace; each costs two passes of arithmetic over A.
        seed: of the first Q.
        progress: told of each chunk.

    Returns:
        (features, dim) float64, (dim,) float64.

    Source: Halko et al. (2011), arXiv:0909.4061, algorithm 4.4.
    """
    width = min(dim + OVERSAMPLED, features)
    basis = np.linalg.qr(numpy_rng("directions", seed).standard_normal((features, width)))[0]
    gram = np.zeros((width, width))
    for iteration in range(iterations + 1):
        last = iteration == iterations
        grown = np.zeros((0 if last else features, width))
        for number, chunk in enumerate(chunks):
            rows = chunk()
            images = times(rows, basis)
            if last:
                gram += images.T @ images
            for row in range(0 if last else len(images)):
                entries = slice(rows.offsets[row], rows.offsets[row + 1])
                grown[rows.indices[entries]] += rows.counts[entries, None] * images[row]  # a row names a column once
            progress(f"iteration {iteration + 1} of {iterations + 1}: {number + 1} of {len(chunks)} chunks")
        basis = basis if last else np.linalg.qr(grown)[0]
    squares, turn = np.linalg.eigh(gram)
    order = np.argsort(-squares)[:dim]
    order = order[squares[order] > 1e-12 * max(squares.max(), 1e-300)]
    vectors = basis @ turn[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])  # a direction and its opposite are the same: take one
    return vectors * signs, np.sqrt(squares[order])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, as float32; rows of nothing become the first axis."""
    lengths = np.sqrt((vectors**2).sum(1))
    vectors = np.divide(vectors, lengths[:, None], where=lengths[:, None] > 0, out=np.zeros_like(vectors))
    vectors[lengths == 0, 0] = 1
    return vectors.astype(np.float32)
