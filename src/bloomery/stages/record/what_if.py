"""`what_if`: how many documents would stay under another threshold, from what was measured; no text is read again but the examples'."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import ConfigError
from bloomery.stages.record.record import Found, Record, nearest

Bounds = tuple[float | None, float | None]
"""The least and the most that stays; None is no bound."""

CONDITION = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?|none)\s*")


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """What another threshold would change at its filter.

    Attributes:
        measure, filter: "Gopher.words", "Gopher".
        before, after: the bounds of the measure as they are, and as they would be.
        reached: documents that came to the filter.
        dropped: how many of them it dropped.
        released: how many of these it would let pass; what the later filters would say of them is not known.
        lost: how many more it would drop.
        lost_kept: how many of these are in the corpus now; the others went later anyway.
        examples: documents that would change sides, with their values, the nearest to the threshold first.
    """

    measure: str
    filter: str
    before: Bounds
    after: Bounds
    reached: int
    dropped: int
    released: int
    lost: int
    lost_kept: int
    examples: list[tuple[float, Found]]


def condition(record: Record, text: str) -> tuple[str, Bounds]:
    """Reads "Gopher.words>=30": a measure, and its bounds with one of them replaced ("none" removes it).

    Raises:
        ConfigError: it does not read so, or nothing of that name was measured.
    """
    told = CONDITION.fullmatch(text)
    try:
        limit = None if told and told[3] == "none" else float(told[3]) if told else None
    except ValueError:
        told, limit = None, None
    if told is None:
        raise ConfigError(f"{text!r} is no condition; write MEASURE>=NUMBER or MEASURE<=NUMBER, e.g. 'Length.chars>=30'")
    if told[1] not in (known := measures(record)):
        raise ConfigError(f"{record.artifact.reference} measured no {told[1]!r}; {nearest(told[1], known, 'it measured')}")
    low, high = record.bounds.get(told[1], (None, None))
    return told[1], (limit, high) if told[2] == ">=" else (low, limit)


def measures(record: Record) -> list[str]:
    """All that was measured, in the order of the filters."""
    names = {name: None for path in record.files("measures") for name in pq.read_schema(path).names[1:]}
    return sorted(names, key=lambda name: record.order.get(filter_of(name), -1))


def filter_of(measure: str) -> str:
    """The filter's name within a measure's."""
    return measure.rpartition(".")[0]


def what_if(record: Record, measure: str, bounds: Bounds, n: int = 10) -> WhatIf:
    """What would change if the measure had these bounds, and n documents at the margin."""
    filter = filter_of(measure)
    flow = record.funnel[record.order[filter]]
    before = record.bounds.get(measure, (None, None))
    limit = next((new for old, new in zip(before, bounds, strict=True) if old != new and new is not None), 0.0)
    released = lost = lost_kept = 0
    margin: list[tuple[float, float, str]] = []
    for part in measured(record, filter):
        values, others = part.values[measure], part.free(record.bounds)[measure]
        now, then = others & inside(values, before), others & inside(values, bounds)
        changed = np.flatnonzero(now != then)
        gone = now & ~then
        released += int((then & ~now).sum())
        lost += int(gone.sum())
        lost_kept += int((gone & part.kept(record)).sum())
        distance = np.abs(values[changed] - limit)
        nearest_few = changed[np.argsort(distance, kind="stable")[:n]]
        margin += [(abs(float(values[row]) - limit), float(values[row]), part.ids[int(row)].as_py()) for row in nearest_few]
        margin = heapq.nsmallest(n, margin)
    texts = record.find([id for _, _, id in margin])
    return WhatIf(
        measure=measure, filter=filter, before=before, after=bounds, reached=flow.documents_in,
        dropped=flow.documents_in - flow.documents_out, released=released, lost=lost, lost_kept=lost_kept,
        examples=[(value, texts[id]) for _, value, id in margin if id in texts],
    )  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one filter measured of the documents of a part that came to it.

    Attributes:
        number: the part's, as in the names of files.
        ids: of the documents.
        values: measure → float32, NaN where there was nothing to measure.
    """

    number: str
    ids: pa.Array
    values: dict[str, np.ndarray]

    def free(self, bounds: dict[str, Bounds]) -> dict[str, np.ndarray]:
        """For each measure, which documents break no bound of another one of the filter, so that it alone decides on them."""
        broken = {name: ~inside(values, bounds.get(name, (None, None))) for name, values in self.values.items()}
        total = np.sum(list(broken.values()), axis=0, dtype=np.int32)
        return {name: total == broken[name] for name in self.values}

    def kept(self, record: Record) -> np.ndarray:
        """Who is in the corpus, or held out of it."""
        here = [g["id"] for k in ("documents", "held_out") for path, _, g in record.groups(k, ["id"]) if path.stem.endswith(self.number)]
        ids = [chunk for column in here for chunk in column.chunks]
        return pc.is_in(self.ids, pa.chunked_array(ids, pa.string()).combine_chunks()).to_numpy(zero_copy_only=False)


def measured(record: Record, filter: str) -> Iterator[Part]:
    """What a filter measured, part by part."""
    for path in record.files("measures"):
        names = [name for name in pq.read_schema(path).names[1:] if filter_of(name) == filter]
        if not names:
            continue
        table = pq.read_table(path, columns=["id", *names], use_threads=False)
        reached = table.filter(_any([pc.is_valid(table[name]) for name in names]))
        columns = {name: pc.fill_null(reached[name], float("nan")).to_numpy() for name in names}
        yield Part(path.stem.rpartition("-")[2], reached["id"].combine_chunks(), columns)


def inside(values: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Which values break no bound, compared as float32, in which they are stored; what was not measured breaks none."""
    low, high = bounds
    broken = np.zeros(len(values), bool)
    if low is not None:
        broken |= values < np.float32(low)
    if high is not None:
        broken |= values > np.float32(high)
    return ~broken


def _any(masks: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    found = masks[0]
    for mask in masks[1:]:
        found = pc.or_(found, mask)
    return found
