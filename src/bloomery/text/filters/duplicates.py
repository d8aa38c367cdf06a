"""`ExactDuplicates`: each text once."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import GlobalFilter, Notes, Verdicts

BUCKET_ROWS = 4_000_000  # sorted at once: some 200 MB


class ExactDuplicates(GlobalFilter):
    """Drops documents whose text, white space aside, there is already; the first in source order stays, and the verdict names it.

    Texts count as equal when 128 bits of their BLAKE2b are: among a billion documents that errs with probability 1e-21.
    """

    def note(self, batch: pa.RecordBatch) -> pa.Table:
        digests = np.frombuffer(b"".join(map(digest, batch.column("text"))), np.uint64).reshape(-1, 2)
        return pa.table({"row": np.arange(batch.num_rows), "high": digests[:, 0], "low": digests[:, 1]})

    def resolve(self, notes: Notes) -> pa.Table:
        found = []
        buckets = -(-notes.rows // BUCKET_ROWS)
        for bucket in range(buckets):
            mine = [table.filter(pa.array(table["high"].to_numpy() % buckets == bucket)) for table in notes.tables()]
            row, high, low = (np.concatenate([table[name].to_numpy() for table in mine]) for name in ("row", "high", "low"))
            order = np.lexsort((row, low, high))
            row, high, low = row[order], high[order], low[order]
            new = np.concatenate([[True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])])
            first = row[np.flatnonzero(new)][np.cumsum(new) - 1]
            again = ~new & (row >= notes.first)
            found.append((row[again], first[again]))
        rows, of = (np.concatenate([pair[i] for pair in found] or [np.empty(0, np.int64)]) for i in (0, 1))
        order = np.argsort(rows, kind="stable")
        return pa.table({"row": rows[order], "of": of[order]})

    def apply(self, batch: pa.RecordBatch, decisions: pa.Table) -> Verdicts:
        reasons = np.full(batch.num_rows, None, object)
        reasons[decisions["row"].to_numpy()] = [f"duplicate of {id}" for id in decisions["of"].to_pylist()]
        column = pa.array(reasons, pa.string())
        return Verdicts(batch=batch, reasons=column, dropped=pc.is_valid(column))


def digest(text: pa.StringScalar) -> bytes:
    """128 bits for a text's words, each with one blank before it."""
    return blake2b(b" ".join(text.as_buffer().to_pybytes().split()), digest_size=16).digest()
