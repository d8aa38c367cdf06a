"""`Filter`: a judgement on documents, as a value; and `Verdicts`, what it says of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.core.config import Config

VERDICTS = pa.schema([
    pa.field("id", pa.string(), nullable=False),
    pa.field("filter", pa.string(), nullable=False),
    pa.field("action", pa.string(), nullable=False),  # "rewrite" or "drop"; documents that were kept as they are have no row
    pa.field("reason", pa.string(), nullable=False),
    pa.field("value", pa.float64()),  # what was measured, where a number was
    pa.field("threshold", pa.float64()),  # what it was compared with
])
"""The columns of `verdicts.parquet`: one row per document and filter that touched it."""


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a filter says of a batch, row by row.

    Attributes:
        batch: all the rows, in their order and with their ids; those that the filter rewrites are rewritten.
        reasons: why a row is rewritten or dropped; null where it is kept as it is.
        dropped: booleans; true for rows that go.
        values: what was measured, as float64, or None.
        threshold: what the values were compared with, as one number or float64 per row, or None.
    """

    batch: pa.RecordBatch
    reasons: pa.Array
    dropped: pa.Array
    values: pa.Array | None = None
    threshold: float | pa.Array | None = None

    @classmethod
    def keep(cls, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts that leave everything as it is."""
        return cls(batch=batch, reasons=pa.nulls(batch.num_rows, pa.string()), dropped=pa.array(np.zeros(batch.num_rows, bool)))

    def kept(self) -> pa.RecordBatch:
        """The rows that stay, rewritten where the filter rewrites."""
        return self.batch.filter(pc.invert(self.dropped))

    def table(self, name: str) -> pa.RecordBatch:
        """The rows of `verdicts.parquet` for the filter called `name`."""
        n = self.batch.num_rows
        values = pa.nulls(n, pa.float64()) if self.values is None else self.values.cast(pa.float64())
        threshold = self.threshold if isinstance(self.threshold, pa.Array) else pa.repeat(pa.scalar(self.threshold, pa.float64()), n)
        action = pc.if_else(self.dropped, "drop", "rewrite")
        columns = [self.batch.column("id"), pa.repeat(pa.scalar(name), n), action, self.reasons, values, threshold.cast(pa.float64())]
        every = pa.RecordBatch.from_arrays(columns, names=VERDICTS.names)
        return every.filter(pc.is_valid(self.reasons)).cast(VERDICTS)


class Filter(Config):
    """Judges each document by itself: a pure function of a batch. Subclasses write `__call__`, columnar."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts on a batch of the schema `DOCUMENTS`; the same for a row whatever batch it comes in."""
        raise NotImplementedError

    def begin(self) -> Judge:
        """Who judges a whole corpus, batch after batch in source order."""
        return _Memoryless(self)


class GlobalFilter(Filter):
    """Judges documents by the ones before them. Subclasses write `begin`; the judge's memory can be saved and restored."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return self.begin()(batch)

    def begin(self) -> Judge:
        raise NotImplementedError


class Judge(Protocol):
    """A filter at work on one corpus."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        """The verdicts on the next batch."""
        ...

    def learnt(self) -> pa.Table | None:
        """What has come to be remembered since the last call, for `recall`; None where nothing ever is."""
        ...

    def recall(self, learnt: pa.Table) -> None:
        """Takes up again what an earlier judge had `learnt`."""
        ...


@dataclass(frozen=True)
class _Memoryless:
    filter: Filter

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return self.filter(batch)

    def learnt(self) -> pa.Table | None:
        return None

    def recall(self, learnt: pa.Table) -> None:
        raise AssertionError("a filter without memory has nothing to recall")


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
