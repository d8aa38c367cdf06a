"""`Classifier`: which of some kinds a text is, by its words.

    classifier.json   labels and features
    weights.npy       (buckets, labels) float32
    biases.npy        (labels,) float32
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bloomery.core.errors import ArtifactError
from bloomery.store.files import read_json, write_json
from bloomery.text.learned.arrays import write_array
from bloomery.text.learned.features import Bags, bags, portions
from bloomery.text.learned.lbfgs import minimise

INDEX = "classifier.json"
TOLERANCE = 1e-3  # of the gradient's length, against its first


class Labelled(NamedTuple):
    """Some texts as features, with what they are.

    Attributes:
        features: unit rows, see `features_of`.
        labels: (rows,) int64.
    """

    features: Bags
    labels: np.ndarray


@dataclass(frozen=True)
class Classifier:
    """Multinomial logistic regression over hashed words, pairs of words and character n-grams.

        p(label | text) = softmax(x W + b),   x = (1 + ln count of each feature), scaled to length 1

    Attributes:
        labels: the kinds.
        word_ngrams, char_ngrams: which features; see `bags`.
        weights: (buckets, labels) float32.
        biases: (labels,) float32.

    Source: Joulin et al. (2016), arXiv:1607.01759, as quality filter Li et al. (2024), arXiv:2406.11794, and Penedo et al. (2024),
    arXiv:2406.17557; departures: no hidden layer, so that the training has one optimum and finds it.
    """

    labels: tuple[str, ...]
    word_ngrams: int
    char_ngrams: tuple[int, int] | None
    weights: np.ndarray
    biases: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Opens a `TrainClassifier`'s artifact.

        Raises:
            ArtifactError: a file is missing or is not what it should be.
        """
        index = read_json(folder / INDEX)
        try:
            weights = np.load(folder / "weights.npy", mmap_mode="r", allow_pickle=False)
            biases = np.load(folder / "biases.npy", allow_pickle=False)
            char_ngrams = tuple(index["char_ngrams"]) if index["char_ngrams"] else None
            return cls(tuple(index["labels"]), int(index["word_ngrams"]), char_ngrams, weights, biases)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder} does not hold a classifier ({error}); delete the folder and run again") from None

    def save(self, folder: Path) -> None:
        """Writes the files that `load` reads."""
        for name, array in (("weights.npy", self.weights), ("biases.npy", self.biases)):
            write_array(folder / name, array)
        write_json(folder / INDEX, {"labels": self.labels, "word_ngrams": self.word_ngrams, "char_ngrams": self.char_ngrams})

    def scores(self, texts: pa.Array) -> np.ndarray:
        """(texts, labels) float64: the probability of each label, were all equally common."""
        return np.concatenate([np.empty((0, len(self.labels))), *map(self._scores, portions(texts))])

    def _scores(self, texts: pa.Array) -> np.ndarray:
        features = features_of(texts, len(self.weights), self.word_ngrams, self.char_ngrams)
        return np.exp(log_softmax(products(features, self.weights) + self.biases.astype(np.float64)))


@lru_cache(maxsize=4)
def load_classifier(folder: Path) -> Classifier:
    """The classifier in a folder, opened once per process."""
    return Classifier.load(folder)


def features_of(texts: pa.Array, buckets: int, word_ngrams: int, char_ngrams: tuple[int, int] | None) -> Bags:
    """The bags of some texts, with 1 + ln count for a count, each row scaled to length 1."""
    bag = bags(texts, buckets, word_ngrams=word_ngrams, char_ngrams=char_ngrams)
    return bag._replace(counts=1 + np.log(bag.counts)).unit()


def products(features: Bags, weights: np.ndarray) -> np.ndarray:
    """(rows, columns of weights) float64: each row times the weights."""
    rows, n = features.rows(), len(features.offsets) - 1
    columns = [features.counts * weights[features.indices, k].astype(np.float64) for k in range(weights.shape[1])]
    return np.stack([np.bincount(rows, column, n) for column in columns], axis=1)


def fit(
    chunks: Sequence[Callable[[], Labelled]], labels: int, buckets: int, *, l2: float, max_iterations: int,
    progress: Callable[[int, float], None] = lambda iteration, value: None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Weights and biases that make the examples most probable, each label counting as much as the others.

        minimise  mean over labels of the mean over their examples of −ln p(label | text)  +  l2/2 · ‖W‖²

    Args:
        chunks: read the examples, a part at a time; called again and again.
        labels: how many.
        buckets: columns of the features.
        l2: weight of the penalty.
        max_iterations: steps of L-BFGS at most.
        progress: told of each step.

    Returns:
        (buckets, labels) float32, (labels,) float32, and how many steps were taken.
    """
    shares, seen = np.zeros(labels), np.zeros(buckets, bool)
    for chunk in chunks:
        features, label = chunk()
        shares += np.bincount(label, minlength=labels)
        seen[features.indices] = True
    each = 1 / (labels * shares)  # of an example, by its label: all together weigh 1
    place = np.cumsum(seen) - 1  # features that never occur keep the weight 0; the others move together
    width = int(seen.sum())

    def function(point: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = point.reshape(labels, width + 1).T  # a label's numbers lie together
        loss, gradient = 0.0, np.zeros((labels, width + 1)).T
        for chunk in chunks:
            features, label = chunk()
            features = features._replace(indices=place[features.indices])
            rows = features.rows()
            logs = log_softmax(products(features, parameters[:-1]) + parameters[-1])
            weight = each[label]
            loss -= float((weight * logs[np.arange(len(label)), label]).sum())
            errors = np.exp(logs)
            errors[np.arange(len(label)), label] -= 1
            errors *= weight[:, None]
            for k in range(labels):
                gradient[:-1, k] += np.bincount(features.indices, features.counts * errors[rows, k], width)
            gradient[-1] += errors.sum(0)
        gradient[:-1] += l2 * parameters[:-1]
        return loss + l2 / 2 * float((parameters[:-1] ** 2).sum()), gradient.T.ravel()

    start = np.zeros((width + 1) * labels)
    best, steps = minimise(function, start, max_iterations=max_iterations, tolerance=TOLERANCE, progress=progress)
    parameters = best.reshape(labels, width + 1).T.astype(np.float32)
    weights = np.zeros((buckets, labels), np.float32)
    weights[seen] = parameters[:-1]
    return weights, parameters[-1], steps


def log_softmax(values: np.ndarray) -> np.ndarray:
    """ln softmax of each row."""
    values = values - values.max(1, keepdims=True)
    return values - np.log(np.exp(values).sum(1, keepdims=True))
