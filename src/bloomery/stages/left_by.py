"""`LeftBy`: the documents that another stage has left, as a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import DataError
from bloomery.core.rng import derive_seed
from bloomery.stages.stage import Stage
from bloomery.store import Artifact
from bloomery.text.documents import read_parquet
from bloomery.text.readers import Reader
from bloomery.text.readers.reader import OnDamage, warn


class LeftBy(Reader):
    """What a `Prepare` or a `Synthesize` has left, to be filtered further; what another one has dropped stays dropped.

    Example:
        >>> Prepare(name="verified", source=LeftBy(stage=drafts), filters=(Judged(by=answered, at_least=1.0),))
    """

    stage: Stage
    """The stage; it leaves `documents-*.parquet`."""
    split: Literal["documents", "held_out"] = "documents"
    """Which of its documents."""
    as_many_as: Stage | None = None
    """Take a sample of no more documents than this other stage has left, so that two corpora of one size can be compared; None takes all."""
    seed: int = 0
    """Of the sample."""

    def __str__(self) -> str:
        return f"what {self.stage.reference} has left"

    def batches(self, after: str | None = None, on_damage: OnDamage = warn) -> Iterator[pa.RecordBatch]:
        raise DataError(f"LeftBy reads what {self.stage.reference} leaves, which only a stage has at hand; give it as Prepare.source")

    def resolved(self, folder_of: Callable[[Any], Path]) -> Reader:
        paths = _paths(folder_of(self.stage), self.split)
        wanted = None if self.as_many_as is None else sum(pq.read_metadata(p).num_rows for p in _paths(folder_of(self.as_many_as), "documents"))
        return _Shards(of=str(self), paths=paths, wanted=wanted, seed=self.seed)


class _Shards(Reader):
    """The documents of some shards."""

    of: str
    """Who has left them."""
    paths: tuple[Path, ...]
    """In order."""
    wanted: int | None
    """How many to take, the same ones whatever came before; None takes all."""
    seed: int
    """Of which ones."""

    def batches(self, after: str | None = None, on_damage: OnDamage = warn) -> Iterator[pa.RecordBatch]:
        chosen = self._chosen()
        passed = after is None
        for batch in read_parquet(self.paths):
            if chosen is not None:
                batch = batch.filter(pc.is_in(batch.column("id"), value_set=chosen))
            if not passed:
                at = pc.index(batch.column("id"), pa.scalar(after)).as_py()
                if at < 0:
                    continue
                batch, passed = batch.slice(at + 1), True
            if batch.num_rows:
                yield batch

    def total_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def __str__(self) -> str:
        return self.of

    def _chosen(self) -> pa.Array | None:
        """The ids with the least hashes."""
        if self.wanted is None:
            return None
        ids = [id for batch in read_parquet(self.paths, ["id"]) for id in batch.column("id").to_pylist()]
        return pa.array(sorted(ids, key=lambda id: derive_seed("sample", self.seed, id))[: self.wanted], pa.string())


def _paths(folder: Path, split: str) -> tuple[Path, ...]:
    artifact = Artifact.open(folder)
    names = sorted(name for name in artifact.manifest.files if name.startswith(f"{split}-"))
    if not names:
        raise DataError(f"{artifact.reference} holds no {split}; loosen its filters")
    return tuple(artifact.checked(name) for name in names)
