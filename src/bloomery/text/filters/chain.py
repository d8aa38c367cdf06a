"""Filters one after the other, with the book of what each did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Operator, Verdicts


@dataclass
class Flow:
    """What went into a filter and what came out: one level of the funnel."""

    filter: str
    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rewritten: int = 0

    def __str__(self) -> str:
        return f"{self.filter} dropped {self.documents_in - self.documents_out} of {self.documents_in}"

    def add(self, other: Self) -> None:
        """Counts what another part of the corpus went through, too."""
        for name in ("documents_in", "documents_out", "bytes_in", "bytes_out", "rewritten"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Filtered:
    """What filters make of a batch.

    Attributes:
        batch: the documents that are left.
        flows: the funnel.
        dropped: for each filter, the documents that went, as it found them.
        verdicts: for each filter, the schema `VERDICTS`.
        measures: for each filter that measured something, `id` and a float32 column "<filter>.<measure>" for each measure.
        bounds: for each of these columns, the least and the most that stays.
    """

    batch: pa.RecordBatch
    flows: tuple[Flow, ...] = ()
    dropped: tuple[pa.RecordBatch, ...] = ()
    verdicts: tuple[pa.RecordBatch, ...] = ()
    measures: tuple[pa.Table, ...] = ()
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def after(self, name: str, verdicts: Verdicts) -> Filtered:
        """What there is when one more filter, called `name`, has spoken."""
        left, table = verdicts.kept(), verdicts.table(name)
        rewritten = pc.sum(pc.equal(table.column("action"), "rewrite")).as_py() or 0
        flow = Flow(name, self.batch.num_rows, left.num_rows, text_bytes(self.batch), text_bytes(left), rewritten)
        numbers = {f"{name}.{measure.name}": measure.values.cast(pa.float32()) for measure in verdicts.measures}
        return Filtered(
            left, (*self.flows, flow), (*self.dropped, self.batch.filter(verdicts.dropped)), (*self.verdicts, table),
            (*self.measures, pa.table({"id": self.batch.column("id")} | numbers)) if numbers else self.measures,
            {**self.bounds, **{f"{name}.{measure.name}": (measure.low, measure.high) for measure in verdicts.measures}},
        )  # fmt: skip


def run_through(operators: Iterable[tuple[str, Operator]], filtered: Filtered) -> Filtered:
    """Goes on filtering by operators that have names."""
    for name, operator in operators:
        filtered = filtered.after(name, operator(filtered.batch))
    return filtered


def names_of(filters: Sequence[object]) -> list[str]:
    """A name for each filter: its class, and its place where another of its class is there."""
    kinds = [type(filter).__name__ for filter in filters]
    return [kind if kinds.count(kind) == 1 else f"{kind}[{i}]" for i, kind in enumerate(kinds)]


def text_bytes(batch: pa.RecordBatch | pa.Table) -> int:
    """Bytes of UTF-8 in the column `text`."""
    return pc.sum(pc.binary_length(batch["text"])).as_py() or 0
