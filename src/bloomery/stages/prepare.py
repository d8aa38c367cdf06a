"""`Prepare`: a source and filters, made into shards of documents.

    documents-00000.parquet …   what stays, in source order (the schema `DOCUMENTS`)
    held_out-00000.parquet …    the documents set aside for evaluation, if any were asked for
    dropped-00000.parquet …     what went, as the filter named in the column `filter` found it
    measures-00000.parquet …    what was measured: `id`, and a column "<filter>.<measure>" each, null where a document never got there
    verdicts.parquet            why documents were dropped or rewritten (the schema `VERDICTS`)

The work goes by parts, runs of documents of the source, on as many workers as there are; the bytes are the same on any number of them, and
after any interruption. See `bloomery.text.engine`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from annotated_types import Ge, Le, Lt

from bloomery.core.errors import DataError
from bloomery.core.units import Bytes, human_bytes
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Artifact, Workspace
from bloomery.text.documents import read_parquet
from bloomery.text.engine import Refined, Refinery
from bloomery.text.filters import ExactDuplicates, Filter, Length, Normalise
from bloomery.text.readers import Reader


class Prepare(Stage):
    """Reads a source, filters it, and sets some of it aside."""

    contract: ClassVar[int] = 2  # 2: dropped-* and measures-*; parts of half the size

    source: Reader
    """Where the documents come from."""
    filters: tuple[Filter, ...] = (Normalise(), Length(), ExactDuplicates())
    """Applied one after the other."""
    known: tuple[Prepare, ...] = ()
    """Corpora that are there already, such as what a model has read: what filters that look at the whole corpus find in them is not new."""
    held_out: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the documents that are set aside for evaluation, each by a hash of its id: the same ones whatever else is in the source."""
    keep_dropped: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the dropped documents whose text is kept on record, to be looked at."""
    shard_bytes: Annotated[Bytes, Le(1 << 30)] = 32 << 20
    """Text read per part, which makes one shard at most; a worker's memory is a few times this."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        source = self.source.resolved(lambda stage: inputs[stage].path)
        expected = source.total_bytes()
        of = f" of about {human_bytes(expected)}" if expected else ""
        refinery = Refinery(
            source=source, filters=self.filters, known=[path for corpus in self.known for path in shards(inputs[corpus])],
            part_bytes=self.shard_bytes, held_out=self.held_out, keep_dropped=self.keep_dropped, output=workspace.path,
            executor=context.executor(), open=lambda filter: filter.open(lambda stage: inputs[stage].path),
            progress=lambda line: context.progress(f"{self.reference}: {line}{of}"),
        )  # fmt: skip
        refined = refinery.run()
        documents = sum(mark["rows"]["documents"] + mark["rows"]["held_out"] for mark in refined.parts)
        if not documents:
            if not refined.read:
                raise DataError(f"{self.source} holds no document{_lost(refined)}; give a source with text in it")
            raise DataError(f"no document is left of {self.source}: {'; '.join(map(str, refined.funnel))}; loosen the filters")
        for mark in refined.parts:
            for kind, rows in mark["rows"].items():
                if rows and kind != "verdicts":
                    size = {"bytes": mark["bytes_out"][kind]} if kind in mark["bytes_out"] else {}
                    workspace.count(f"{kind}-{mark['part']:05d}.parquet", rows=rows, **size)
        workspace.count("verdicts.parquet", rows=sum(mark["rows"]["verdicts"] for mark in refined.parts) + len(refined.damage))
        refinery.clear()
        if refined.damage:
            context.say(f"{self.reference}: some could not be read{_lost(refined)}; verdicts.parquet names each")
        return {
            "documents": sum(mark["rows"]["documents"] for mark in refined.parts),
            "bytes": sum(mark["bytes_out"]["documents"] for mark in refined.parts),
            "held_out_documents": sum(mark["rows"]["held_out"] for mark in refined.parts),
            "documents_read": sum(mark["read"] for mark in refined.read), "bytes_read": sum(mark["bytes"] for mark in refined.read),
            "damaged": len(refined.damage), "funnel": [asdict(flow) for flow in refined.funnel], "bounds": refined.bounds,
        }  # fmt: skip


def _lost(refined: Refined) -> str:
    """What could not be read, in a few words."""
    if not refined.damage:
        return ""
    first = refined.damage[0]
    return f" ({len(refined.damage)} damaged records, the first {first.id}: {first.reason})"


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
