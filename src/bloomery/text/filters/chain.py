"""`Chain`: filters one after the other over a corpus, with the book of what each did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import VERDICTS, Filter


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


class Filtered(NamedTuple):
    """What a chain makes of a batch."""

    batch: pa.RecordBatch
    """The documents that are left."""
    verdicts: pa.Table
    """The schema `VERDICTS`; in the order of the filters, and of the documents within each."""


class Chain:
    """Filters at work on one corpus, fed batch after batch in source order. Goes on from `state` after an interruption."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        kinds = [filter.kind() for filter in filters]
        self.names = [kind if kinds.count(kind) == 1 else f"{kind}[{i}]" for i, kind in enumerate(kinds)]
        self._judges = [filter.begin() for filter in filters]
        self.funnel = [Flow(name) for name in self.names]

    def __call__(self, batch: pa.RecordBatch) -> Filtered:
        books = []
        for judge, flow in zip(self._judges, self.funnel, strict=True):
            verdicts = judge(batch)
            books.append(verdicts.table(flow.filter))
            flow.documents_in += batch.num_rows
            flow.bytes_in += text_bytes(batch)
            batch = verdicts.kept()
            flow.documents_out += batch.num_rows
            flow.bytes_out += text_bytes(batch)
            flow.rewritten += pc.sum(pc.equal(books[-1]["action"], "rewrite")).as_py() or 0
        return Filtered(batch, pa.Table.from_batches(books, VERDICTS))

    def learnt(self) -> dict[str, pa.Table]:
        """What the filters with a memory have come to remember since the last call, by their names."""
        news = {name: judge.learnt() for name, judge in zip(self.names, self._judges, strict=True)}
        return {name: table for name, table in news.items() if table is not None}

    def recall(self, name: str, learnt: pa.Table) -> None:
        """Gives a filter back what it had `learnt`."""
        self._judges[self.names.index(name)].recall(learnt)

    def plain(self) -> list[dict[str, int | str]]:
        """The funnel as plain data."""
        return [asdict(flow) for flow in self.funnel]


def text_bytes(batch: pa.RecordBatch | pa.Table) -> int:
    """Bytes of UTF-8 in the column `text`."""
    return pc.sum(pc.binary_length(batch["text"])).as_py() or 0
