"""`TrainClassifier`: what kinds of texts look like, from examples; and `Classified`: documents that look like a kind, or do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.units import Bytes
from bloomery.stages.learned.sample import sample, scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Artifact, Workspace
from bloomery.text.filters import Filter, Measure, Operator, Verdicts
from bloomery.text.learned import classifier as learned
from bloomery.text.learned.classifier import Classifier, features_of, fit, load_classifier
from bloomery.text.learned.features import Bags, mixed, portions, words
from bloomery.text.learned.metrics import auc, calibration, f1


class Examples(Config):
    """Documents that are known to be of a kind."""

    label: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    """What they are."""
    corpus: Prepare
    """Where they are."""
    where: dict[str, str | int | float | bool] | None = None
    """Only the documents whose meta says this: {"class": "0"}; None takes all."""

    def among(self, batch: pa.RecordBatch) -> pa.Array:
        """The texts of a batch that are examples."""
        texts = batch.column("text")
        if self.where is None:
            return texts
        metas = (json.loads(meta) if meta else {} for meta in batch.column("meta").to_pylist())
        return texts.filter(pa.array([self.where.items() <= meta.items() for meta in metas], pa.bool_()))


class TrainClassifier(Stage):
    """Learns to tell kinds of documents apart by their words. What it leaves: a `Classifier`.

    Each kind counts the same however many examples it has, so a score is a probability among kinds that are equally common. Some examples,
    chosen by a hash of their words so that copies stay together, are set aside; the summary says how well they are told apart.

    Example:
        >>> TrainClassifier(examples=(Examples(label="good", corpus=books), Examples(label="other", corpus=crawl)))
        >>> TrainClassifier(examples=tuple(Examples(label=l, corpus=posts, where={"class": l}) for l in ("toxic", "clean")), char_ngrams=(2, 5))
    """

    examples: tuple[Examples, ...]
    """One entry for each kind, at least two."""
    word_ngrams: Annotated[int, Ge(1), Le(4)] = 2
    """1 looks at words, 2 at pairs of neighbours too, and so on."""
    char_ngrams: tuple[int, int] | None = None
    """Shortest and longest character n-grams to look at, within words, up to 8; they see through odd spellings and cost time. None is none."""
    buckets: Annotated[int, Ge(1 << 8), Le(1 << 24)] = 1 << 19
    """Features that are told apart; training needs some 200 bytes for each and each kind."""
    l2: Annotated[float, Gt(0)] = 1e-5
    """Weight of ‖W‖²/2 beside the mean loss: the more, the more cautious; larger for fewer examples."""
    max_iterations: Annotated[int, Ge(1)] = 100
    """Steps of L-BFGS at most."""
    held_out: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Share of the examples that is set aside to measure on."""
    sample_bytes: Bytes = 32 << 20
    """Text of each kind to learn from, in bytes."""

    def check(self) -> None:
        labels = [examples.label for examples in self.examples]
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ConfigError(f"TrainClassifier.examples has the labels {labels}; give two kinds at least, each once")
        if self.char_ngrams is not None and not 1 <= self.char_ngrams[0] <= self.char_ngrams[1] <= 8:
            raise self.refuse("char_ngrams", "must be two numbers from 1 to 8 that do not fall, such as (2, 5)")

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        labels = tuple(examples.label for examples in self.examples)
        with scratch(workspace) as folder:
            spilled = Spilled(folder)
            for label, examples in enumerate(self.examples):
                for texts in self._texts(examples, inputs[examples.corpus]):
                    features = features_of(texts, self.buckets, self.word_ngrams, self.char_ngrams)
                    spilled.add(features, label, self._aside(texts))
                    context.progress(f"{self.reference}: {spilled.rows:,} examples read")
                if spilled.known_labels != label + 1:
                    where = inputs[examples.corpus].reference
                    raise DataError(f"{self.reference}: {where} has no examples of {examples.label!r} to learn from; check its filters")
            weights, biases, steps = fit(
                spilled.chunks("learn"), len(labels), self.buckets, l2=self.l2, max_iterations=self.max_iterations,
                progress=lambda step, loss: context.progress(f"{self.reference}: step {step}, loss {loss:.5f}"),
            )  # fmt: skip
            model = Classifier(labels, self.word_ngrams, self.char_ngrams, weights, biases)
            model.save(workspace.path)
            figures = measured(model, spilled.chunks("aside"))
        return {"examples": spilled.rows, "steps": steps, **figures}

    def _texts(self, examples: Examples, corpus: Artifact) -> Iterator[pa.Array]:
        for batch in sample(corpus, self.sample_bytes, ("text", "meta")):
            yield from portions(examples.among(batch))

    def _aside(self, texts: pa.Array) -> np.ndarray:
        """(texts,) bool: which are set aside, by a hash of their words in whatever order."""
        found = words(texts)
        total = np.concatenate([[np.uint64(0)], np.cumsum(found.hashes)])
        return mixed(total[found.offsets[1:]] - total[found.offsets[:-1]]) < self.held_out * 2.0**64


class Classified(Filter):
    """Drops documents by how probable a classifier finds a label: a bound below for what is wanted, one above for what is not.

    Example:
        >>> Classified(model=quality, label="good", min_score=0.5)
        >>> Classified(model=toxicity, label="toxic", max_score=0.8)
    """

    model: TrainClassifier
    """Who judges."""
    label: str
    """One of the classifier's."""
    min_score: Annotated[float, Ge(0), Le(1)] | None = None
    """The least that stays, as a probability; None is no limit."""
    max_score: Annotated[float, Ge(0), Le(1)] | None = None
    """The most that stays, as a probability; None is no limit."""

    def check(self) -> None:
        labels = [examples.label for examples in self.model.examples]
        if self.label not in labels:
            raise self.refuse("label", f"is none of the classifier's; {', '.join(labels)} are")
        if self.min_score is not None and self.max_score is not None and self.max_score < self.min_score:
            raise self.refuse("max_score", f"is below min_score={self.min_score}, so nothing would stay; raise it")

    def open(self, folder_of: Callable[[Any], Path]) -> Operator:
        return JudgeClass(folder_of(self.model), self.label, self.min_score, self.max_score)


@dataclass(frozen=True)
class JudgeClass:
    """`Classified` at work: the classifier's folder, the label and the bounds."""

    folder: Path
    label: str
    low: float | None
    high: float | None

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts on a batch."""
        classifier = load_classifier(self.folder)
        values = pa.array(classifier.scores(batch.column("text"))[:, classifier.labels.index(self.label)])
        return Verdicts.by_measures(batch, [Measure(name=f"{self.label}_score", values=values, low=self.low, high=self.high)])


class Spilled:
    """Examples on the disk, those to learn from and those set aside.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rows = self.known_labels = self._files = 0

    def add(self, features: Bags, label: int, aside: np.ndarray) -> None:
        """Writes down examples of one label."""
        for kind, rows in (("learn", np.flatnonzero(~aside)), ("aside", np.flatnonzero(aside))):
            if len(rows):
                some = features.take(rows)
                path = self._folder / f"{kind}-{self._files:05d}.npz"
                np.savez(path, label=label, indices=some.indices.astype(np.int32), counts=some.counts, offsets=some.offsets)
                self.known_labels = label + 1 if kind == "learn" else self.known_labels
        self.rows += len(aside)
        self._files += 1

    def chunks(self, kind: str) -> list[Callable[[], learned.Labelled]]:
        """Readers of what was written."""
        return [partial(_read, path) for path in sorted(self._folder.glob(f"{kind}-*.npz"))]


def _read(path: Path) -> learned.Labelled:
    with np.load(path, allow_pickle=False) as file:
        bag = Bags(file["indices"], file["counts"], file["offsets"])
        return learned.Labelled(bag, np.full(len(bag.offsets) - 1, int(file["label"])))


def measured(model: Classifier, chunks: list[Callable[[], learned.Labelled]]) -> dict[str, Any]:
    """How well examples that were set aside are told apart: accuracy, and for each label AUC, F1 (at the likeliest label) and calibration."""
    if not chunks:
        return {"held_out": 0}
    parts = [(np.exp(learned.log_softmax(learned.products(e.features, model.weights) + model.biases)), e.labels) for e in (c() for c in chunks)]
    scores, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    guesses, counts = scores.argmax(1), np.bincount(labels, minlength=len(model.labels))
    weights = 1 / counts[labels]  # scores are meant for labels that are equally common
    figures: dict[str, Any] = {"held_out": len(labels), "accuracy": round(float((guesses == labels).mean()), 4), "labels": {}}
    for k, label in enumerate(model.labels):
        positive = labels == k
        if 0 < counts[k] < len(labels):
            error, table = calibration(scores[:, k], positive, weights)
            figures["labels"][label] = {
                "held_out": int(counts[k]), "auc": round(auc(scores[:, k], positive), 4), "f1": round(f1(guesses == k, positive), 4),
                "calibration_error": round(error, 4), "calibration": table,
            }  # fmt: skip
    return figures
