"""`story`: all that happened to one document."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import DataError
from bloomery.stages.record.pairs import original
from bloomery.stages.record.record import Found, Judgement, Record

REPEATS_SHOWN = 20


@dataclass(frozen=True)
class Story:
    """One document's way through the filters.

    Attributes:
        id: the document's.
        found: where it is now; None where only the record of it is left.
        judgements: what was said of it, in the order of the filters.
        measures: measure → its value, of what was measured of it.
        steps: each filter of the funnel with what it did: "kept", "rewrite", "drop", or "not reached".
        repeats: the ids of documents that were dropped because they repeat it; the first twenty.
    """

    id: str
    found: Found | None
    judgements: tuple[Judgement, ...]
    measures: dict[str, float]
    steps: list[tuple[str, str, Judgement | None]]
    repeats: list[str]


def story(record: Record, id: str) -> Story:
    """What is on record of a document.

    Raises:
        DataError: there is nothing.
    """
    found = record.find([id]).get(id)
    judgements = found.judgements if found else record.said_of([id]).get(id, ())
    if found is None and not judgements:
        example = next((table["id"][0].as_py() for _, _, table in record.groups("documents", ["id"])), "")
        raise DataError(f"{record.artifact.reference} knows no document {id!r}; ids look like {example!r}, and --search finds words in texts")
    by_filter = {j.filter: j for j in judgements}
    steps: list[tuple[str, str, Judgement | None]] = []
    over = False
    for flow in record.funnel:
        said = by_filter.pop(flow.filter, None)
        steps.append((flow.filter, "not reached" if over else said.action if said else "kept", said))
        over |= said is not None and said.action == "drop"
    steps = [(j.filter, j.action, j) for j in by_filter.values()] + steps  # said by what is no filter: the reader
    return Story(id, found, judgements, _measures(record, id), steps, _repeats(record, id))


def _measures(record: Record, id: str) -> dict[str, float]:
    for path, group, table in record.groups("measures", ["id"]):
        row = pc.index(table["id"], pa.scalar(id)).as_py()
        if row >= 0:
            with pq.ParquetFile(path) as file:
                (values,) = file.read_row_group(group).slice(row, 1).to_pylist()
            return {name: value for name, value in values.items() if name != "id" and value is not None}
    return {}


def _repeats(record: Record, id: str) -> list[str]:
    told: list[str] = []
    for table in record.verdicts(lambda t: pc.ends_with(t["reason"], f" of {id}"), ["id", "reason"]):
        told += [row["id"] for row in table.to_pylist() if original(row["reason"]) == id]
        if len(told) >= REPEATS_SHOWN:
            break
    return told[:REPEATS_SHOWN]
