"""`TrainEmbedder`: vectors for texts, from what occurs together in a corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from bloomery.core.errors import DataError
from bloomery.core.units import Bytes
from bloomery.stages.learned.sample import sample, scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Workspace
from bloomery.text.learned.embedder import BUCKETS, Embedder, directions, known
from bloomery.text.learned.features import Bags, bags, portions


class TrainEmbedder(Stage):
    """Learns to embed texts by latent semantic analysis. What it leaves: an `Embedder`."""

    corpus: Prepare
    """What to learn from: documents like those that are to be compared."""
    dim: Annotated[int, Ge(2), Le(2048)] = 256
    """Length of the vectors; a small corpus may yield fewer."""
    word_ngrams: Annotated[int, Ge(1), Le(2)] = 1
    """1 looks at words, 2 at pairs of neighbours too."""
    max_features: Annotated[int, Ge(2), Le(1 << 20)] = 1 << 16
    """Features that count; those in most documents do. Training needs some 40 · dim bytes for each."""
    iterations: Annotated[int, Ge(0)] = 3
    """Of the subspace; more of them are more accurate, each reads the sample once more."""
    sample_bytes: Bytes = 32 << 20
    """Text to learn from, in bytes."""
    seed: int = 0
    """Of the first guess."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        with scratch(workspace) as folder:
            documents, frequencies = self._spill(inputs, folder)
            often = np.flatnonzero(frequencies >= 2)
            if not len(often):
                raise DataError(f"{self.reference}: no word is in two documents of {inputs[self.corpus].reference}; give it more documents")
            columns = np.sort(often[np.argsort(-frequencies[often], kind="stable")][: self.max_features])
            rarity = np.log((1 + documents) / (1 + frequencies[columns])) + 1
            chunks = [partial(_weighted, path, columns, rarity) for path in sorted(folder.glob("*.npz"))]
            vectors, strengths = directions(
                chunks, len(columns), self.dim, iterations=self.iterations, seed=self.seed,
                progress=lambda line: context.progress(f"{self.reference}: {line}"),
            )  # fmt: skip
        Embedder(columns, (rarity[:, None] * vectors).astype(np.float32), self.word_ngrams).save(workspace.path)
        if len(strengths) < self.dim:
            context.say(f"{self.reference}: the corpus yields {len(strengths)} directions, not {self.dim}")
        return {"documents": documents, "features": len(columns), "dim": len(strengths)}

    def _spill(self, inputs: Inputs, folder: Path) -> tuple[int, np.ndarray]:
        """Writes the bags of the sample; returns how many documents there are, and in how many each bucket occurs."""
        documents, frequencies = 0, np.zeros(BUCKETS, np.int64)
        portioned = (portion for batch in sample(inputs[self.corpus], self.sample_bytes) for portion in portions(batch.column("text")))
        for number, texts in enumerate(portioned):
            bag = bags(texts, BUCKETS, word_ngrams=self.word_ngrams)
            np.savez(folder / f"{number:05d}.npz", indices=bag.indices, counts=bag.counts, offsets=bag.offsets)
            frequencies += np.bincount(bag.indices, minlength=BUCKETS)
            documents += len(texts)
        return documents, frequencies


def _weighted(path: Path, columns: np.ndarray, rarity: np.ndarray) -> Bags:
    """The rows of a chunk: term frequency times inverse document frequency, scaled to length 1."""
    with np.load(path, allow_pickle=False) as file:
        bag = known(Bags(file["indices"], file["counts"], file["offsets"]), columns)
    return bag._replace(counts=bag.counts * rarity[bag.indices]).unit()
