"""Documents beside the ones that they repeat, and documents beside the test items that they give away."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.stages.record.record import Found, Record

DUPLICATE = "duplicate of "
"""What stands before the id of the document that stayed, in the reason of every filter that drops repetitions."""
NAMED = re.compile(r"duplicate of (?:near duplicates of )?(.+)", re.DOTALL)
LEAK_FILTER = "Decontamin"
"""How the names of filters begin that compare documents with test items."""
DOCUMENTS_KEPT = 5  # ids remembered per leak


@dataclass(frozen=True)
class Pair:
    """A dropped document and the one that it repeats, which is None where it belongs to another corpus or its text is not on record."""

    dropped: Found
    of: str
    twin: Found | None


@dataclass
class Leak:
    """A test item that was met, as the filter named it; in how many documents, and the ids of the first of them."""

    filter: str
    item: str
    dropped: int = 0
    rewritten: int = 0
    ids: list[str] = field(default_factory=list)


def pairs(record: Record, n: int, seed: int, filter: str | None = None) -> tuple[list[Pair], int]:
    """At most n random documents that were dropped as repetitions, beside what they repeat; and how many there are."""
    dropped, total = record.dropped(n, seed, filter=filter, reason=DUPLICATE)
    of = {found.id: original(found.drop.reason) if found.drop else "" for found in dropped}
    twins = record.find(set(of.values()))
    return [Pair(found, of[found.id], twins.get(of[found.id])) for found in dropped], total


def original(reason: str) -> str:
    """The id of the document that stayed, as a reason names it; empty where it names none."""
    named = NAMED.search(reason)
    return named[1] if named else ""


def leaks(record: Record) -> list[Leak]:
    """The test items that were met in documents, the most frequent first."""
    found: dict[tuple[str, str], Leak] = {}
    for table in record.verdicts(lambda t: pc.starts_with(t["filter"], LEAK_FILTER), ["id", "filter", "action", "reason"]):
        for row in table.to_pylist():
            leak = found.setdefault((row["filter"], row["reason"]), Leak(row["filter"], row["reason"]))
            leak.dropped += row["action"] == "drop"
            leak.rewritten += row["action"] == "rewrite"
            if len(leak.ids) < DOCUMENTS_KEPT:
                leak.ids.append(row["id"])
    return sorted(found.values(), key=lambda leak: (-leak.dropped - leak.rewritten, leak.item))


def leaking(record: Record, n: int, seed: int) -> list[Found]:
    """Some random documents that were dropped for what they give away."""
    names = [flow.filter for flow in record.funnel if flow.filter.startswith(LEAK_FILTER) and flow.documents_in > flow.documents_out]
    return record.sample("dropped", n, seed, lambda t: pc.is_in(t["filter"], pa.array(names, pa.string())), ["filter"])[0] if names else []
