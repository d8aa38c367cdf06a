"""A part of a corpus on its way through filters: what is done to it between two decisions on the whole.

All that a pass leaves are files named after the pass and the part; the mark ("0-00003.json") is written last, so that its existence means that
the part's pass is done. The files depend on the part alone, not on who made them when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.core.rng import derive_seed
from bloomery.store.files import write_json
from bloomery.text.documents import DOCUMENTS, write_parquet
from bloomery.text.engine.tables import read_arrow, read_table, write_arrow, write_table
from bloomery.text.filters import VERDICTS, Filtered, Flow, GlobalFilter, Operator, run_through, text_bytes
from bloomery.text.filters.filter import between, shifted
from bloomery.text.readers import Damage

DROPPED = DOCUMENTS.append(pa.field("filter", pa.string(), nullable=False))
"""The columns of `dropped-*.parquet`: each document as the filter found that took it."""


@dataclass(frozen=True)
class Part:
    """A run of documents of the source.

    Attributes:
        number: its place.
        read: what is known of it since it was read, for the mark of the first pass.
    """

    number: int
    read: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int, batches: Sequence[pa.RecordBatch], damage: Sequence[Damage]) -> Part:
        """The part that holds these documents, before which that could not be read."""
        return cls(number, {
            "last": batches[-1].column("id")[-1].as_py(), "bytes": sum(map(text_bytes, batches)),
            "read": sum(batch.num_rows for batch in batches), "damage": [asdict(one) for one in damage],
        })  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Work on parts, as a value that travels to other processes.

    Attributes:
        folder: where the files between the passes are.
        output: where the corpus grows.
        number: 0 is the first pass, which finds what was read; later ones find what the pass before left.
        carry: the global filter whose decisions are carried out first.
        operators: then the filters that judge each document by itself.
        noting: the global filter that decides after this pass; None after the last one, which writes the corpus.
        held_out: share of the documents that are set aside.
        keep_dropped: share of the dropped documents whose text stays on record.
    """

    folder: Path
    output: Path
    number: int
    carry: tuple[str, GlobalFilter] | None
    operators: Sequence[tuple[str, Operator]]
    noting: GlobalFilter | None
    held_out: float
    keep_dropped: float

    def file(self, part: int, kind: str, number: int | None = None) -> Path:
        """The file of a kind that this pass, or another, leaves of a part; the pass before the first, number -1, is reading."""
        number = self.number if number is None else number
        return self.folder / f"{number if number >= 0 else 'read'}-{part:05d}.{kind}"

    def __call__(self, part: Part) -> dict[str, Any]:
        """Does the work and returns what the mark says."""
        done, number = Tally(self.keep_dropped), part.number
        kept = [done.count(filtered) for filtered in self._filtered(number)]
        mark: dict[str, Any] = {"part": number, "documents": sum(batch.num_rows for batch in kept)} | part.read
        if not self.number:
            ids = (batch.select(["id"]) for batch in read_arrow(self.file(number, "docs", -1), ["id"]))
            write_arrow(self.file(number, "ids"), pa.schema([DOCUMENTS.field("id")]), ids)
        if self.noting is None:
            mark |= self._bind(number, kept, done)
        else:
            write_arrow(self.file(number, "docs"), DOCUMENTS, kept)
            write_table(self.file(number, "notes"), noted(self.noting, kept))
            for kind, table in done.tables().items():
                write_table(self.file(number, kind), table)
        mark |= {"flows": [asdict(flow) for flow in done.flows.values()], "bounds": done.bounds}
        write_json(self.file(number, "json"), mark)
        return mark

    def forget(self, part: int) -> None:
        """Removes what the pass before left of a part that is done. Not a worker's task: one whose run was killed may linger for a moment."""
        for kind in ("docs", "notes", "decisions"):
            self.file(part, kind, self.number - 1).unlink(missing_ok=True)

    def _filtered(self, part: int) -> Iterator[Filtered]:
        start = 0
        decisions = read_table(self.file(part, "decisions", self.number - 1)) if self.carry else None
        for batch in read_arrow(self.file(part, "docs", self.number - 1)):
            filtered = Filtered(batch)
            if self.carry and decisions is not None:
                name, filter = self.carry
                filtered = filtered.after(name, filter.apply(batch, between(decisions, start, start + batch.num_rows)))
            yield run_through(self.operators, filtered)
            start += batch.num_rows

    def _bind(self, number: int, kept: list[pa.RecordBatch], done: Tally) -> dict[str, Any]:
        """Writes the part of the corpus, and of its record, joined over all passes and in the order of the source."""
        left = pa.Table.from_batches(kept, DOCUMENTS)
        aside = set_aside(left["id"], self.held_out)
        kinds = {"documents": left.filter(pc.invert(aside)), "held_out": left.filter(aside)}
        ids = read_table(self.file(number, "ids", 0))["id"]
        books = {
            kind: [read_table(self.file(number, kind, earlier)) for earlier in range(self.number)] + [table]
            for kind, table in done.tables().items()
        }
        verdicts, dropped = (_in_order(pa.concat_tables(books[kind]), ids) for kind in ("verdicts", "dropped"))
        measures = pa.table({"id": ids})
        for book in books["measures"]:
            measures = widened(measures, book)
        kinds |= {"dropped": dropped, "measures": measures if measures.num_columns > 1 else measures.slice(0, 0)}
        for kind, table in kinds.items():
            if table.num_rows:
                write_parquet(self.output / f"{kind}-{number:05d}.parquet", table)
        write_table(self.file(number, "final"), verdicts)
        rows = {kind: table.num_rows for kind, table in kinds.items()} | {"verdicts": verdicts.num_rows}
        return {"rows": rows, "bytes_out": {kind: text_bytes(table) for kind, table in kinds.items() if "text" in table.column_names}}


@dataclass
class Tally:
    """The books of one part in one pass."""

    keep_dropped: float
    verdicts: list[pa.RecordBatch] = field(default_factory=list)
    dropped: list[pa.RecordBatch] = field(default_factory=list)
    measures: list[pa.Table] = field(default_factory=list)
    flows: dict[str, Flow] = field(default_factory=dict)
    bounds: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def count(self, filtered: Filtered) -> pa.RecordBatch:
        """Enters a batch; returns what is left of it."""
        for flow, gone in zip(filtered.flows, filtered.dropped, strict=True):
            self.flows.setdefault(flow.filter, Flow(flow.filter)).add(flow)
            kept = gone.filter(set_aside(gone.column("id"), self.keep_dropped, "dropped"))
            self.dropped.append(pa.RecordBatch.from_arrays([*kept.columns, pa.repeat(pa.scalar(flow.filter), kept.num_rows)], schema=DROPPED))
        self.verdicts += filtered.verdicts
        self.measures += filtered.measures
        self.bounds |= filtered.bounds
        return filtered.batch

    def tables(self) -> dict[str, pa.Table]:
        """The books by kind."""
        measures: pa.Table = pa.table({"id": pa.array([], pa.string())})
        by_columns: dict[tuple[str, ...], list[pa.Table]] = {}
        for table in self.measures:
            by_columns.setdefault(tuple(table.column_names), []).append(table)
        for number, tables in enumerate(by_columns.values()):
            table = pa.concat_tables(tables)
            measures = table if number == 0 else widened(measures, table)  # the first filter that measures sees the most
        return {
            "verdicts": pa.Table.from_batches(self.verdicts, VERDICTS), "dropped": pa.Table.from_batches(self.dropped, DROPPED),
            "measures": measures,
        }  # fmt: skip


def widened(measures: pa.Table, more: pa.Table) -> pa.Table:
    """The measures with the columns of other ones beside them, by `id`; null where a document is not among these."""
    rows = pc.index_in(measures["id"], more["id"].combine_chunks())
    for name in more.column_names[1:]:
        measures = measures.append_column(name, more[name].take(rows))
    return measures


def noted(filter: GlobalFilter, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """A filter's notes on a part, with rows counted from its beginning."""
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)]).tolist()
    empty = pa.RecordBatch.from_pylist([], schema=DOCUMENTS)
    return pa.concat_tables([filter.note(empty), *(shifted(filter.note(b), start) for b, start in zip(batches, starts, strict=False))])


def set_aside(ids: pa.Array | pa.ChunkedArray, share: float, purpose: str = "held_out") -> pa.Array:
    """Picks a share of the documents, each by a hash of its id: the same ones whatever else is there."""
    if share in (0.0, 1.0):
        return pa.array(np.full(len(ids), bool(share)))
    hashes = np.fromiter((derive_seed(purpose, id) for id in ids.to_pylist()), np.float64, len(ids))
    return pa.array(hashes < share * 2.0**63)


def _in_order(table: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The rows in the order of the documents that they are about."""
    return table.take(pc.sort_indices(pc.index_in(table["id"], ids.combine_chunks())))
