"""`Filter`: a judgement on documents, as a value; `GlobalFilter`, on documents beside all others; and `Verdicts`, what they say of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.core.config import Config

SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
"""Stretches of a text, in characters (code points), the end excluded."""

VERDICTS = pa.schema([
    pa.field("id", pa.string(), nullable=False),
    pa.field("filter", pa.string(), nullable=False),
    pa.field("action", pa.string(), nullable=False),  # "rewrite" or "drop"; documents that were kept as they are have no row
    pa.field("reason", pa.string(), nullable=False),
    pa.field("value", pa.float64()),  # what was measured, where a number was
    pa.field("threshold", pa.float64()),  # what it was compared with
    pa.field("spans", SPANS),  # of a drop: what gave offence, in the text as it came; of a rewrite: what was changed, in the text as it left
])
"""The columns of `verdicts.parquet`: one row per document and filter that touched it."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number for each document, and the bounds between which documents stay.

    Attributes:
        name: what is measured, e.g. "words": a word or a few with underscores, the same in every batch.
        values: float64, a number per row; null where there is nothing to measure, which breaks no bound.
        low, high: what is below `low` or above `high` goes; None is no bound.
    """

    name: str
    values: pa.Array
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a filter says of a batch, row by row.

    Attributes:
        batch: all the rows, in their order and with their ids; those that the filter rewrites are rewritten.
        reasons: why a row is rewritten or dropped; null where it is kept as it is.
        dropped: booleans; true for rows that go.
        values: what was measured, as float64, or None.
        threshold: what the values were compared with, as one number or float64 per row, or None.
        spans: of the type `SPANS`, or None; see `VERDICTS`.
        measures: all that was measured, of the rows that are kept too, so that other thresholds can be tried without reading anything again.
    """

    batch: pa.RecordBatch
    reasons: pa.Array
    dropped: pa.Array
    values: pa.Array | None = None
    threshold: float | pa.Array | None = None
    spans: pa.Array | None = None
    measures: tuple[Measure, ...] = ()

    @classmethod
    def keep(cls, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts that leave everything as it is."""
        return cls(batch=batch, reasons=pa.nulls(batch.num_rows, pa.string()), dropped=pa.array(np.zeros(batch.num_rows, bool)))

    @classmethod
    def rewrite(cls, before: pa.RecordBatch, after: pa.RecordBatch, reason: str, spans: pa.Array | None = None) -> Verdicts:
        """The verdicts that put `after` in the place of `before`; `reason` goes to the rows whose text, messages or meta differ."""
        same = pa.array(np.ones(before.num_rows, bool))
        for column in ("text", "messages", "meta"):
            old, new = before.column(column), after.column(column)
            if not old.equals(new):
                same = pc.and_(same, _equal(old, new))
        reasons = pc.if_else(same, pa.scalar(None, pa.string()), pa.scalar(reason))
        return cls(batch=after, reasons=reasons, dropped=pa.array(np.zeros(before.num_rows, bool)), spans=spans)

    @classmethod
    def by_measures(cls, batch: pa.RecordBatch, measures: Sequence[Measure], spans: pa.Array | None = None) -> Verdicts:
        """The verdicts that drop each row for the first of the measures whose bounds it breaks: "words below 50", with value and threshold."""
        n = batch.num_rows
        reasons: pa.Array = pa.nulls(n, pa.string())
        values: pa.Array = pa.nulls(n, pa.float64())
        thresholds: pa.Array = pa.nulls(n, pa.float64())
        for measure in measures:
            for bound, breaks, word in ((measure.low, pc.less, "below"), (measure.high, pc.greater, "above")):
                if bound is not None:
                    broken = pc.and_(reasons.is_null(), pc.fill_null(breaks(measure.values, float(bound)), False))
                    reasons = pc.if_else(broken, pa.scalar(f"{measure.name.replace('_', ' ')} {word} {bound:g}"), reasons)
                    values = pc.if_else(broken, measure.values.cast(pa.float64()), values)
                    thresholds = pc.if_else(broken, pa.scalar(float(bound)), thresholds)
        dropped = pc.is_valid(reasons)
        return cls(batch=batch, reasons=reasons, dropped=dropped, values=values, threshold=thresholds, spans=spans, measures=tuple(measures))

    def kept(self) -> pa.RecordBatch:
        """The rows that stay, rewritten where the filter rewrites."""
        return self.batch.filter(pc.invert(self.dropped))

    def table(self, name: str) -> pa.RecordBatch:
        """The rows of `verdicts.parquet` for the filter called `name`."""
        n = self.batch.num_rows
        values = pa.nulls(n, pa.float64()) if self.values is None else self.values.cast(pa.float64())
        threshold = self.threshold if isinstance(self.threshold, pa.Array) else pa.repeat(pa.scalar(self.threshold, pa.float64()), n)
        spans = pa.nulls(n, SPANS) if self.spans is None else self.spans.cast(SPANS)
        action = pc.if_else(self.dropped, "drop", "rewrite")
        columns = [self.batch.column("id"), pa.repeat(pa.scalar(name), n), action, self.reasons, values, threshold.cast(pa.float64()), spans]
        every = pa.RecordBatch.from_arrays(columns, names=VERDICTS.names)
        return every.filter(pc.is_valid(self.reasons)).cast(VERDICTS)


def _equal(old: pa.Array, new: pa.Array) -> pa.Array:
    """Row by row; two nulls are equal."""
    if pa.types.is_nested(old.type):  # which Arrow does not compare
        return pa.array([a == b for a, b in zip(old.to_pylist(), new.to_pylist(), strict=True)], pa.bool_())
    return pc.or_(pc.fill_null(pc.equal(old, new), False), pc.and_(old.is_null(), new.is_null()))


Operator = Callable[[pa.RecordBatch], Verdicts]
"""A filter ready for work: a pure function of a batch of the schema `DOCUMENTS`; a row's verdict is the same whatever batch it comes in."""


class Filter(Config):
    """Judges each document by itself. Subclasses write `__call__`, columnar; or `open`, where an artifact of another stage is needed."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts on a batch of the schema `DOCUMENTS`; the same for a row whatever batch it comes in."""
        raise NotImplementedError

    def open(self, folder_of: Callable[[Any], Path]) -> Operator:
        """Who judges: something that travels to other processes, and so loads what is large only when it first judges.

        Args:
            folder_of: finds the folder of the artifact that a stage among the fields has made.
        """
        return self


class Notes(Protocol):
    """What a global filter has noted of all documents, part after part, in source order."""

    @property
    def first(self) -> int:
        """The rows before this one are of corpora that are there already: they come first in every order, and nothing of them goes."""
        ...

    @property
    def rows(self) -> int:
        """How many documents there are, those of earlier corpora included."""
        ...

    @property
    def scratch(self) -> Path:
        """A folder for what does not fit in memory; it is removed afterwards."""
        ...

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """What `note` made, in source order, one or more tables per part, `row` counted over all documents; again at every call."""
        ...


class GlobalFilter(Filter):
    """Judges documents beside all others, in three steps, of which the first and the last go batch by batch on any number of workers.

    `note` writes down what must be known of each document; `resolve` looks at the notes of the whole corpus, in bounded memory, and decides;
    `apply` carries the decisions out. Verdicts are the same however the corpus was cut into batches. `open`, where one needs an artifact, gives
    a global filter again.
    """

    def note(self, batch: pa.RecordBatch) -> pa.Table:
        """What must be known of the documents of a batch: any number of rows each; the int64 column `row` says whose (0 is the first's)."""
        raise NotImplementedError

    def resolve(self, notes: Notes) -> pa.Table:
        """What is to be done: a table with an int64 column `row`, any number of times each, in ascending order.

        An int64 column `of`, if there is one, names another document, by its row; `apply` finds its id there instead. No `row` is below
        `notes.first`.
        """
        raise NotImplementedError

    def apply(self, batch: pa.RecordBatch, decisions: pa.Table) -> Verdicts:
        """The verdicts on a batch, given the decisions on it, whose `row` is counted from the batch's beginning."""
        raise NotImplementedError

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts on a corpus of one batch."""
        return judge_all(self, [batch])[0]


def judge_all(
    filter: GlobalFilter, batches: Sequence[pa.RecordBatch], known: Sequence[pa.RecordBatch] = (), scratch: Path = Path(),
) -> list[Verdicts]:
    """The verdicts on a small corpus, all in memory: the plain meaning of a global filter, which engines must equal.

    Args:
        filter: who judges.
        batches: the corpus.
        known: corpora that are there already.
        scratch: a folder for the filter to spill to.
    """
    everything = [*known, *batches]
    starts = np.concatenate([[0], np.cumsum([batch.num_rows for batch in everything])]).tolist()
    tables = [shifted(filter.note(batch), start) for batch, start in zip(everything, starts[:-1], strict=True)]
    notes = _InMemory(tables, starts[len(known)], starts[-1], scratch)
    ids = pa.chunked_array([batch.column("id") for batch in everything], pa.string())
    decisions = named(filter.resolve(notes), ids)
    return [filter.apply(b, between(decisions, start, start + b.num_rows)) for b, start in zip(batches, starts[len(known) : -1], strict=True)]


@dataclass(frozen=True)
class _InMemory:
    _tables: Sequence[pa.Table]
    first: int
    rows: int
    scratch: Path

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        return (table.select(list(columns)) if columns else table for table in self._tables)


def shifted(table: pa.Table, by: int) -> pa.Table:
    """The table with `by` added to its column `row`."""
    return table.set_column(table.schema.get_field_index("row"), "row", pc.add(table["row"], by))


def between(decisions: pa.Table, start: int, end: int) -> pa.Table:
    """The decisions on the documents from `start` to before `end`, counted from `start`."""
    rows = decisions["row"].to_numpy()
    low, high = np.searchsorted(rows, (start, end)).tolist()
    return shifted(decisions.slice(low, high - low), -start)


def named(decisions: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The decisions with the ids of the documents in the place of the rows in `of`."""
    at = decisions.schema.get_field_index("of")
    return decisions if at < 0 else decisions.set_column(at, "of", ids.take(decisions["of"]))


def with_texts(batch: pa.RecordBatch, text: pa.Array, contents: pa.Array | None = None) -> pa.RecordBatch:
    """The batch with other texts, and other contents of its messages (flattened over all rows of the batch).

    The text of a conversation is derived from its contents, so a filter that rewrites one rewrites both.
    """
    rewritten = batch.set_column(batch.schema.get_field_index("text"), batch.schema.field("text"), text)
    if contents is None:
        return rewritten
    messages = batch.column("messages")
    flat = messages.flatten()
    struct = pa.StructArray.from_arrays([flat.field("role"), contents], fields=list(messages.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    rebuilt = pa.ListArray.from_arrays(offsets, struct, type=messages.type, mask=messages.is_null())
    return rewritten.set_column(batch.schema.get_field_index("messages"), batch.schema.field("messages"), rebuilt)
