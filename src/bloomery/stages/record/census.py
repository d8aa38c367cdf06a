"""What a corpus is made of: its sources, and the languages and licences that its documents tell of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.stages.record.record import Record

DISTINCT = 1000  # sources counted one by one; more are counted by folder
KEYS = {"languages": "language|lang", "licences": "licen[cs]e"}


@dataclass
class Census:
    """Documents by source, language and licence; those that do not tell are in none."""

    sources: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)


def census(record: Record) -> Census:
    """Counts the documents that stayed, held out or not. Languages and licences are read from `meta`."""
    found = Census()
    for kind in ("documents", "held_out"):
        for _, _, table in record.groups(kind, ["source", "meta"]):
            found.sources += _counted(table["source"].combine_chunks())
            if len(found.sources) > DISTINCT:
                found.sources = _by_folder(found.sources)
            for name, keys in KEYS.items():
                told = pc.struct_field(pc.extract_regex(table["meta"], rf'"(?:{keys})": ?"(?P<value>[^"\\]{{1,80}})"'), "value")
                getattr(found, name).update(_counted(told.combine_chunks()))
    return found


def _counted(values: pa.Array) -> Counter[str]:
    return Counter({row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist() if row["values"]})


def _by_folder(sources: Counter[str]) -> Counter[str]:
    """Counts by the first part of the path; if that is as many, altogether."""
    folders: Counter[str] = Counter()
    for source, documents in sources.items():
        folders[source.partition("/")[0]] += documents
    return folders if len(folders) <= DISTINCT else Counter({"(many)": folders.total()})
