"""`SemanticDuplicates`: each meaning once, as far as an embedder can tell."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Gt, Le

from bloomery.core.config import Config
from bloomery.core.rng import numpy_rng
from bloomery.text.filters.filter import GlobalFilter, Notes, Verdicts
from bloomery.text.learned.embedder import HashedEmbedder, load_embedder
from bloomery.text.shingles import words_of

SAMPLE_ROWS = 1 << 16
"""The documents that clusters are learnt from, at most: evenly spread over the corpus."""
BLOCK = 1 << 10  # documents compared at once


class _Learnt(Config):
    """An embedder that was learnt, by where it lies; opened when it first embeds."""

    folder: Path
    """Of the artifact."""

    def embed(self, texts: pa.StringArray) -> np.ndarray:
        """Vectors of unit length, (rows, dim)."""
        return load_embedder(self.folder).embed(texts)


class SemanticDuplicates(GlobalFilter):
    """Drops documents whose vectors point where an earlier one's does.

    Documents are clustered by k-means on the unit sphere, and compared within their cluster only. In the order that `keep` gives, a document
    goes if its cosine to any before it is `min_cosine` or more; the verdict names the one that stays for it, and gives the largest cosine.
    A corpus of another size has other clusters, in which a pair may meet that was apart before.

    Source: Abbas et al. (2023), arXiv 2303.09540; departures: the number of clusters follows from the number of documents, and the first
    document stays by default.
    """

    embedder: Config = HashedEmbedder()
    """What makes vectors: a config with `embed(texts)`, which gives float32 rows of unit length; or a stage that learns to, `TrainEmbedder`."""
    min_cosine: Annotated[float, Gt(0), Le(1)] = 0.95
    """Documents mean the same from this cosine on. What it should be depends on the embedder: look at what goes."""
    cluster_documents: Annotated[int, Ge(1)] = 2000
    """Documents per cluster, on average: comparing costs the square of it."""
    rounds: Annotated[int, Ge(1)] = 10
    """Of k-means."""
    keep: Literal["first", "outermost"] = "first"
    """What comes before what: source order, or the distance from the middle of the cluster, far ones first, as in the paper."""
    seed: int = 0
    """Where k-means begins."""

    def open(self, folder_of: Callable[[Any], Path]) -> SemanticDuplicates:
        if callable(getattr(self.embedder, "embed", None)):
            return self
        return self.replace(embedder=_Learnt(folder=folder_of(self.embedder)))

    def note(self, batch: pa.RecordBatch) -> pa.Table:
        text = batch.column("text")
        row = np.flatnonzero(np.diff(words_of(text).bounds))  # an empty text means nothing
        vectors = np.ascontiguousarray(self.embedder.embed(text.take(pa.array(row))), np.float32)  # pyrefly: ignore[missing-attribute]
        column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * vectors.shape[1]), len(row), [None, pa.py_buffer(vectors)])
        return pa.table({"row": row, "vector": column})

    def resolve(self, notes: Notes) -> pa.Table:
        with tempfile.TemporaryFile(dir=notes.scratch) as file:
            rows, width = [np.empty(0, np.int64)], 0
            for table in notes.tables(["row", "vector"]):
                rows.append(table["row"].to_numpy())
                for chunk in table["vector"].chunks:
                    width = chunk.type.byte_width
                    file.write(memoryview(chunk.buffers()[1])[chunk.offset * width : (chunk.offset + len(chunk)) * width])
            row = np.concatenate(rows)
            if not len(row):
                return pa.table({"row": row, "of": row, "cosine": np.empty(0)})
            file.flush()
            vectors = np.memmap(file, np.float32, "r", shape=(len(row), width // 4))
            centres = self._centres(vectors)
            cluster = nearest(vectors, centres)
            members = np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster, minlength=len(centres)))[:-1])
            found = [self._alike(vectors, mine, centre, row < notes.first) for mine, centre in zip(members, centres, strict=True)]
        gone, of, cosine = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(gone)
        return pa.table({"row": row[gone[order]], "of": row[of[order]], "cosine": cosine[order]})

    def apply(self, batch: pa.RecordBatch, decisions: pa.Table) -> Verdicts:
        rows = decisions["row"].to_numpy()
        reasons, values = np.full(batch.num_rows, None, object), np.full(batch.num_rows, np.nan)
        reasons[rows] = [f"means the same as {id}" for id in decisions["of"].to_pylist()]
        values[rows] = decisions["cosine"].to_numpy()
        column = pa.array(reasons, pa.string())
        return Verdicts(
            batch=batch, reasons=column, dropped=pc.is_valid(column), values=pa.array(values, from_pandas=True), threshold=self.min_cosine,
        )  # fmt: skip

    def _centres(self, vectors: np.ndarray) -> np.ndarray:
        sample = np.asarray(vectors[:: -(-len(vectors) // SAMPLE_ROWS)])
        clusters = min(max(1, round(len(vectors) / self.cluster_documents)), len(sample))
        centres = sample[numpy_rng("k-means", self.seed).permutation(len(sample))[:clusters]]
        for _ in range(self.rounds):
            near = nearest(sample, centres)
            sums = np.zeros_like(centres)
            np.add.at(sums, near, sample)
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
        return centres

    def _alike(
        self, vectors: np.ndarray, members: np.ndarray, centre: np.ndarray, known: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a cluster: who goes, for whom, and the cosine."""
        if self.keep == "outermost":
            members = members[np.argsort(vectors[members] @ centre, kind="stable")]
        members = members[np.argsort(~known[members], kind="stable")]
        best, cosine = np.arange(len(members)), np.full(len(members), -np.inf)
        for low in range(0, len(members), BLOCK):
            mine = vectors[members[low : low + BLOCK]]
            for start in range(0, low + 1, BLOCK):
                products = mine @ vectors[members[start : start + BLOCK]].T
                if start == low:
                    products[np.triu_indices(len(mine))] = -np.inf
                at = products.argmax(axis=1)
                value = products[np.arange(len(mine)), at]
                better = value > cosine[low : low + BLOCK]
                best[low : low + BLOCK][better] = start + at[better]
                cosine[low : low + BLOCK][better] = value[better]
        gone = (cosine >= self.min_cosine) & ~known[members]
        best[~gone] = np.flatnonzero(~gone)
        while not np.array_equal(best[best], best):  # whom the one that it is like goes for
            best = best[best]
        return members[gone], members[best[gone]], cosine[gone].astype(np.float64)


def nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The centre with the largest cosine to each vector."""
    parts = [(vectors[at : at + BLOCK] @ centres.T).argmax(axis=1) for at in range(0, len(vectors), BLOCK)]
    return np.concatenate([np.empty(0, np.int64), *parts])
