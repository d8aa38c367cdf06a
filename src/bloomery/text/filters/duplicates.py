"""`ExactDuplicates`: each text once."""

from __future__ import annotations

from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import GlobalFilter, Judge, Verdicts

DIGEST_BYTES = 16  # a billion documents collide with probability 1e-21


class ExactDuplicates(GlobalFilter):
    """Drops documents whose text, white space aside, has been seen before; the first in source order stays, and the verdict names it.

    The memory it takes is some 200 bytes per document that stays.
    """

    def begin(self) -> Judge:
        return _Seen()


class _Seen:
    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}
        self._news: list[bytes] = []

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        ids = batch.column("id").to_pylist()
        reasons: list[str | None] = [None] * len(ids)
        for row, digest in enumerate(digests(batch.column("text"))):
            first = self._first.setdefault(digest, ids[row])
            if first is ids[row]:
                self._news.append(digest)
            else:
                reasons[row] = f"duplicate of {first}"
        column = pa.array(reasons, pa.string())
        return Verdicts(batch=batch, reasons=column, dropped=pc.is_valid(column))

    def learnt(self) -> pa.Table | None:
        news, self._news = self._news, []
        return pa.table({"digest": pa.array(news, pa.binary(DIGEST_BYTES)), "id": pa.array([self._first[d] for d in news], pa.string())})

    def recall(self, learnt: pa.Table) -> None:
        self._first.update(zip(learnt["digest"].to_pylist(), learnt["id"].to_pylist(), strict=True))


def digests(text: pa.Array) -> list[bytes]:
    """The BLAKE2b digest of each text's words, each with one blank before it."""
    return [blake2b(b" ".join(value.as_buffer().to_pybytes().split()), digest_size=DIGEST_BYTES).digest() for value in text]
