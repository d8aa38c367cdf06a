"""What a model learns from: an even sample of a prepared corpus, and a place for what does not fit in memory."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.core.rng import derive_seed
from bloomery.stages.prepare import documents
from bloomery.store import Artifact, Workspace


def sample(corpus: Artifact, limit_bytes: int, columns: tuple[str, ...] = ("text",)) -> Iterator[pa.RecordBatch]:
    """Documents of a prepared corpus with some `limit_bytes` of text: all there are, or each by a hash of its id."""
    total = sum(pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0 for batch in documents(corpus, columns=("text",)))
    for batch in documents(corpus, columns=("id", *columns)):
        if total > limit_bytes:
            hashes = np.fromiter((derive_seed("sample", id) for id in batch.column("id").to_pylist()), np.float64, batch.num_rows)
            batch = batch.filter(pa.array(hashes < limit_bytes / total * 2.0**63))
        yield batch


@contextlib.contextmanager
def scratch(workspace: Workspace) -> Iterator[Path]:
    """An empty folder for the work's own files, which are gone afterwards; so are those of a run that was killed."""
    folder = workspace.path / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
