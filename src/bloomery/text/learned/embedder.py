"""`Embedder`: texts as unit vectors whose products say how alike the texts are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Le

from bloomery.core.config import Config
from bloomery.core.rng import derive_seed
from bloomery.text.learned.features import bags, mixed

BUCKETS = 1 << 22
ROWS = 1024  # texts embedded at once


class Embeds(Protocol):
    """Whatever turns texts into unit vectors."""

    dim: int

    def embed(self, texts: pa.Array) -> np.ndarray:
        """(texts, dim) float32, each row of unit length; a text without words lies on the first axis."""
        ...


class HashedEmbedder(Config):
    """Embeds by a random projection of words, pairs of words and character n-grams; needs no training.

    Each feature f counts 1 + ln(how often) and goes, with random signs, to 4 coordinates that its hash names; the sum is scaled to unit length.
    The product of two vectors is the cosine of the bags of features, off by some 1/√dim.

    Source: Charikar et al. (2002), count sketches; Weinberger et al. (2009), arXiv:0902.2206, signed feature hashing.
    """

    dim: Annotated[int, Ge(8), Le(4096)] = 256
    """Length of the vectors."""
    seed: int = 0
    """Of the projection."""

    def embed(self, texts: pa.Array) -> np.ndarray:
        """(texts, dim) float32, each row of unit length; a text without words lies on the first axis."""
        parts = [self._embed(texts[start : start + ROWS]) for start in range(0, len(texts), ROWS)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *parts])

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


class Embedder:
    """Embeds by what a `TrainEmbedder` has learnt."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    @classmethod
    def load(cls, folder: Path) -> Embedder:
        """Opens the folder of a `TrainEmbedder`'s artifact."""
        raise NotImplementedError

    def embed(self, texts: pa.Array) -> np.ndarray:
        """(texts, dim) float32, each row of unit length; a text without words lies on the first axis."""
        raise NotImplementedError


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, as float32; rows of nothing become the first axis."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors = np.divide(vectors, lengths[:, None], where=lengths[:, None] > 0, out=np.zeros_like(vectors))
    vectors[lengths == 0, 0] = 1
    return vectors.astype(np.float32)
