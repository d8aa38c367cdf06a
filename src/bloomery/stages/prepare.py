"""`Prepare`: a source and filters, made into shards of documents.

    documents-00000.parquet …   what stays, in source order (the schema `DOCUMENTS`)
    held_out-00000.parquet …    the documents set aside for evaluation, if any were asked for
    verdicts.parquet            why documents were dropped or rewritten (the schema `VERDICTS`)

The work goes by parts: runs of documents of the source. A part's files are written first and its mark last; an interrupted run goes on
behind the last marked part, with what its filters remembered, so that the bytes are those of an undisturbed run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from annotated_types import Ge, Le, Lt

from bloomery.core.errors import DataError
from bloomery.core.rng import derive_seed
from bloomery.core.units import Bytes, human_bytes, human_count
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Artifact, Workspace, read_json, write_json
from bloomery.store.files import atomic_file
from bloomery.text.documents import DOCUMENTS, read_parquet, write_parquet
from bloomery.text.filters import VERDICTS, Chain, ExactDuplicates, Filter, Flow, Length, Normalise
from bloomery.text.filters.chain import text_bytes
from bloomery.text.readers import Reader

PARTS = "parts"  # folder in the workspace for what only an unfinished run needs


class Prepare(Stage):
    """Reads a source, filters it, and sets some of it aside."""

    source: Reader
    """Where the documents come from."""
    filters: tuple[Filter, ...] = (Normalise(), Length(), ExactDuplicates())
    """Applied one after the other."""
    held_out: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the documents that are set aside for evaluation, each by a hash of its id: the same ones whatever else is in the source."""
    shard_bytes: Annotated[Bytes, Le(1 << 30)] = 64 << 20
    """Text read per part, which makes one shard at most; the work's memory is a few times this."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        expected = self.source.total_bytes()
        of = f" of about {human_bytes(expected)}" if expected else ""
        chain = Chain(self.filters)
        marks = [read_json(path) for path in sorted((workspace.path / PARTS).glob("*.json"))]
        for mark in marks:
            for name in mark["learnt"]:
                chain.recall(name, pq.read_table(workspace.path / PARTS / f"{mark['part']:05d}-{name}.parquet"))
        if marks:
            chain.funnel = [Flow(**plain) for plain in marks[-1]["funnel"]]
            context.say(f"{self.reference}: {len(marks)} parts are done; reading on behind {marks[-1]['last']}")
        bytes_read = sum(mark["bytes"] for mark in marks)
        for part in parts(self.source.batches(after=marks[-1]["last"] if marks else None), self.shard_bytes):
            marks.append(self._make(len(marks), part, chain, workspace.path))
            bytes_read += marks[-1]["bytes"]
            read = human_count(sum(mark["read"] for mark in marks))
            context.progress(f"{self.reference}: {read} documents, {human_bytes(bytes_read)}{of}")
        if not sum(mark["documents"] for mark in marks):
            if not marks:
                raise DataError(f"{self.source} holds no document; give a source with text in it")
            raise DataError(f"no document is left of {self.source}: {'; '.join(map(str, chain.funnel))}; loosen the filters")
        self._finish(marks, workspace)
        return {
            "documents": sum(mark["documents"] for mark in marks), "bytes": sum(mark["kept_bytes"] for mark in marks),
            "held_out_documents": sum(mark["held_out"] for mark in marks), "documents_read": sum(mark["read"] for mark in marks),
            "bytes_read": bytes_read, "funnel": chain.plain(),
        }

    def _make(self, number: int, part: list[pa.RecordBatch], chain: Chain, folder: Path) -> dict[str, Any]:
        """Filters one part, writes its files, and marks it done."""
        filtered = [chain(batch) for batch in part]
        left = pa.Table.from_batches([f.batch for f in filtered], DOCUMENTS)
        held_out = self.is_held_out(left["id"])
        kept, aside = left.filter(pc.invert(held_out)), left.filter(held_out)
        for stem, table in (("documents", kept), ("held_out", aside)):
            if table.num_rows:
                write_parquet(folder / f"{stem}-{number:05d}.parquet", table)
        verdicts = pa.concat_tables([f.verdicts for f in filtered])
        order = pc.index_in(verdicts["id"], pa.concat_arrays([batch.column("id") for batch in part]))
        write_parquet(folder / PARTS / f"{number:05d}.verdicts", verdicts.take(pc.sort_indices(order)))
        learnt = chain.learnt()
        for name, table in learnt.items():
            write_parquet(folder / PARTS / f"{number:05d}-{name}.parquet", table)
        mark = {
            "part": number, "last": part[-1].column("id")[-1].as_py(),
            "read": sum(batch.num_rows for batch in part), "bytes": sum(map(text_bytes, part)),
            "documents": kept.num_rows, "kept_bytes": text_bytes(kept), "held_out": aside.num_rows, "held_out_bytes": text_bytes(aside),
            "learnt": sorted(learnt), "funnel": [asdict(flow) for flow in chain.funnel],
        }
        write_json(folder / PARTS / f"{number:05d}.json", mark)
        return mark

    def is_held_out(self, ids: pa.ChunkedArray) -> pa.Array:
        """Which documents are set aside, by their ids alone."""
        if not self.held_out:
            return pa.array(np.zeros(len(ids), bool))
        hashes = np.fromiter((derive_seed("held_out", id) for id in ids.to_pylist()), np.float64, len(ids))
        return pa.array(hashes < self.held_out * 2.0**63)

    def _finish(self, marks: list[dict[str, Any]], workspace: Workspace) -> None:
        """Joins the verdicts, counts the rows for the manifest, and clears away what only an unfinished run needs."""
        folder, judged = workspace.path / PARTS, 0
        with atomic_file(workspace.path / "verdicts.parquet") as file, pq.ParquetWriter(file, VERDICTS, compression="zstd") as writer:
            for mark in marks:
                table = pq.read_table(folder / f"{mark['part']:05d}.verdicts")
                judged += table.num_rows
                writer.write_table(table)
        workspace.count("verdicts.parquet", rows=judged)
        for mark in marks:
            for stem, rows, size in (("documents", "documents", "kept_bytes"), ("held_out", "held_out", "held_out_bytes")):
                if mark[rows]:
                    workspace.count(f"{stem}-{mark['part']:05d}.parquet", rows=mark[rows], bytes=mark[size])
        for mark in reversed(marks):  # backwards and before what they vouch for: whenever this stops, the marks left are a beginning
            (folder / f"{mark['part']:05d}.json").unlink()
        shutil.rmtree(folder)


def shards(corpus: Artifact, split: Literal["documents", "held_out"] = "documents") -> list[Path]:
    """The files of a prepared corpus, in order, each checked to be whole.

    Raises:
        ArtifactError: a file is missing or has another length.
        DataError: the split is empty.
    """
    names = sorted(name for name in corpus.manifest.files if name.startswith(f"{split}-"))
    if not names:
        raise DataError(f"{corpus.reference} holds no {split} shards; prepare it with held_out=0.01, say")
    return [corpus.file(name) for name in names]


def documents(
    corpus: Artifact, split: Literal["documents", "held_out"] = "documents", columns: tuple[str, ...] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Streams the documents of a prepared corpus in order; all columns of `DOCUMENTS`, or those named. Each file's checksum is compared."""
    return read_parquet((corpus.checked(path.name) for path in shards(corpus, split)), columns)


def parts(batches: Iterator[pa.RecordBatch], part_bytes: int) -> Iterator[list[pa.RecordBatch]]:
    """Groups the rows of a stream into runs that end with the row in which `part_bytes` of text are reached, whatever the batches were."""
    part: list[pa.RecordBatch] = []
    room = part_bytes
    for batch in batches:
        sizes = pc.fill_null(pc.binary_length(batch.column("text")), 0).to_numpy().astype(np.int64)
        start = 0
        while start < batch.num_rows:
            total = np.cumsum(sizes[start:])
            last = int(np.searchsorted(total, room))  # the row that fills the part, or none
            taken = min(last + 1, batch.num_rows - start)
            part.append(batch.slice(start, taken))
            room -= int(total[taken - 1])
            start += taken
            if room <= 0:
                yield part
                part, room = [], part_bytes
    if part:
        yield part
