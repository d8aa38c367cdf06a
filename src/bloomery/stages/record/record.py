"""`Record`: reads what `Prepare` left beside a corpus, row group by row group, so that memory stays bounded whatever the size."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import ArtifactError, ConfigError, did_you_mean
from bloomery.stages.record.sampling import keys_of
from bloomery.store import Artifact
from bloomery.text.filters import Flow, PersonalData

Kind = Literal["documents", "held_out", "dropped"]
KINDS: tuple[Kind, ...] = ("documents", "held_out", "dropped")
PLACES = {"documents": "kept", "held_out": "held out", "dropped": "dropped"}
VERDICT_ROWS = 1 << 16  # read at once
BLOT = "█"
LONGEST = 1 << 22  # characters of a text that are looked at; nobody reads more

Choose = Callable[[pa.Table], pa.Array | pa.ChunkedArray]
"""Which rows of a table count, as booleans."""


@dataclass(frozen=True)
class Place:
    """Where a row is: file, row group, row within it."""

    kind: Kind
    path: Path
    group: int
    row: int


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a filter said of a document: a row of `VERDICTS`; spans are pairs of (start, end) in characters."""

    filter: str
    action: str
    reason: str
    value: float | None
    threshold: float | None
    spans: tuple[tuple[int, int], ...]

    @property
    def compared(self) -> str:
        """What was measured and what it was compared with, as an afterword; empty where no number was."""
        if self.value is None:
            return ""
        return f" ({self.value:.4g})" if self.threshold is None else f" ({self.value:.4g} against {self.threshold:.4g})"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A document of the corpus, or one that was dropped; `filter` is who dropped it, or empty.

    The text is for looking at: the first four million characters, and personal data blotted out if the corpus was to have none.
    """

    id: str
    text: str
    source: str
    meta: str | None
    place: Place
    filter: str = ""
    judgements: tuple[Judgement, ...] = ()

    @property
    def where(self) -> str:
        """In words: "kept", "held out" or "dropped"."""
        return PLACES[self.place.kind]

    @property
    def drop(self) -> Judgement | None:
        """Why it went, if it did."""
        return next((j for j in self.judgements if j.action == "drop"), None)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """What to mark in the text: what gave offence or, in one that stayed, what was rewritten last."""
        return self.judgements[-1].spans if self.judgements else ()


class Record:
    """The record of one prepared corpus.

    Raises:
        ConfigError: the artifact is none that `Prepare` made.
    """

    def __init__(self, artifact: Artifact) -> None:
        if "funnel" not in artifact.manifest.summary:
            prepared = sorted({r for r in artifact.manifest.inputs.values() if r.startswith("Prepare/")})
            remedy = f"look at {prepared[0]}" if prepared else "give the reference of one, e.g. Prepare/main"
            raise ConfigError(f"{artifact.reference} was made by {artifact.manifest.stage}, which drops no documents; {remedy}")
        self.artifact = artifact
        self.summary = artifact.manifest.summary
        self.funnel = [Flow(**plain) for plain in self.summary["funnel"]]
        self.bounds: dict[str, tuple[float | None, float | None]] = {name: tuple(pair) for name, pair in self.summary.get("bounds", {}).items()}

    def files(self, kind: str) -> list[Path]:
        """The files of a kind, in order of their parts; each is checked to be there at its full length."""
        return [self.artifact.file(name) for name in sorted(self.artifact.manifest.files) if name.startswith(f"{kind}-")]

    def groups(self, kind: str, columns: Sequence[str]) -> Iterator[tuple[Path, int, pa.Table]]:
        """Some columns of all rows of a kind: file, number of the row group, its rows."""
        for path in self.files(kind):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    yield path, group, file.read_row_group(group, columns=list(columns), use_threads=False)

    def verdicts(self, choose: Choose, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The chosen rows of `verdicts.parquet`, in its order, table by table."""
        with pq.ParquetFile(self.artifact.file("verdicts.parquet")) as file:
            for batch in file.iter_batches(batch_size=VERDICT_ROWS, columns=list(columns) if columns else None, use_threads=False):
                table = pa.Table.from_batches([batch])
                if (chosen := table.filter(pc.fill_null(choose(table), False))).num_rows:
                    yield chosen

    def sample(
        self, kind: Kind, n: int, seed: int, choose: Choose | None = None, columns: Sequence[str] = (),
    ) -> tuple[list[Found], int]:  # fmt: skip
        """At most n random documents, and among how many they were drawn.

        Args:
            kind: of which.
            n: how many.
            seed: of the choice; the same seed picks the same ones.
            choose: which rows count; all if None.
            columns: what `choose` looks at, beside the id.
        """
        best: list[tuple[int, Place]] = []
        total = 0
        for path, group, table in self.groups(kind, ["id", *columns]):
            rows = np.arange(table.num_rows) if choose is None else np.flatnonzero(pc.fill_null(choose(table), False))
            total += len(rows)
            keys = keys_of(table["id"], seed)[rows]
            lowest = np.argsort(keys, kind="stable")[:n]
            best += [(int(keys[i]), Place(kind, path, group, int(rows[i]))) for i in lowest]
            best = heapq.nsmallest(n, best, key=lambda pair: pair[0])
        return self.judged(self.fetch([place for _, place in best])), total

    def fetch(self, places: Sequence[Place]) -> list[Found]:
        """The documents at some places, in the order of the places."""
        found: dict[Place, Found] = {}
        for path, group in dict.fromkeys((place.path, place.group) for place in places):
            mine = [place for place in places if (place.path, place.group) == (path, group)]
            columns = ["id", "text", "source", "meta"] + ["filter"] * (mine[0].kind == "dropped")
            with pq.ParquetFile(path) as file:
                rows = file.read_row_group(group, columns=columns, use_threads=False).take(pa.array([place.row for place in mine]))
            for place, row in zip(mine, rows.to_pylist(), strict=True):
                found[place] = Found(**(row | {"place": place, "text": self._shown(row["text"][:LONGEST])}))
        return [found[place] for place in places]

    def _shown(self, text: str) -> str:
        """What went before personal data was masked still has its own: that is blotted out, one character for one."""
        if not any(flow.filter.partition("[")[0] == PersonalData.kind() for flow in self.funnel):
            return text
        pieces, at = [], 0
        for start, end, _ in PersonalData().find(text):
            pieces += [text[at:start], BLOT * (end - start)]
            at = end
        return "".join([*pieces, text[at:]])

    def find(self, ids: Collection[str]) -> dict[str, Found]:
        """The documents with these ids, as far as there are any: in the corpus, held out, or among the dropped whose text is on record."""
        wanted = pa.array(list(set(ids)), pa.string())
        places: dict[str, Place] = {}
        for kind in KINDS:
            for path, group, table in self.groups(kind, ["id"]) if len(places) < len(wanted) else ():
                for row in np.flatnonzero(pc.is_in(table["id"], wanted).to_numpy()).tolist():
                    places[table["id"][row].as_py()] = Place(kind, path, group, row)
        return {found.id: found for found in self.judged(self.fetch(list(places.values())))}

    def judged(self, found: Sequence[Found]) -> list[Found]:
        """The same with all that was said of them, in the order of the filters."""
        said = self.said_of([f.id for f in found])
        return [replace(f, judgements=said.get(f.id, ())) for f in found]

    def said_of(self, ids: Sequence[str]) -> dict[str, tuple[Judgement, ...]]:
        """What filters said of documents, in the order of the filters."""
        wanted = pa.array(ids, pa.string())
        said: dict[str, list[Judgement]] = {}
        for table in self.verdicts(lambda t: pc.is_in(t["id"], wanted)) if ids else ():
            for row in table.to_pylist():
                said.setdefault(row.pop("id"), []).append(judgement(row))
        return {id: tuple(sorted(rows, key=lambda j: self.order.get(j.filter, -1))) for id, rows in said.items()}

    @cached_property
    def order(self) -> dict[str, int]:
        """The place of each filter in the funnel."""
        return {flow.filter: place for place, flow in enumerate(self.funnel)}

    def dropped(
        self, n: int, seed: int, *, filter: str | None = None, reason: str | None = None, search: str | None = None,
    ) -> tuple[list[Found], int]:  # fmt: skip
        """Random dropped documents: of one filter, for a reason that contains some words, with some words in the text (in either case).

        Raises:
            ConfigError: there is no such filter.
            ArtifactError: documents were dropped, but their texts are not on record.
        """
        if filter is not None and filter not in self.order:
            raise ConfigError(f"{self.artifact.reference} has no filter {filter!r}; {nearest(filter, list(self.order), 'its filters are')}")
        if not self.files("dropped") and any(flow.documents_in > flow.documents_out for flow in self.funnel):
            raise ArtifactError(f"{self.artifact.reference} keeps no text of what it dropped; prepare it again with keep_dropped=1")
        tests: list[Choose] = []
        if filter is not None:
            tests.append(lambda t: pc.equal(t["filter"], filter))
        if reason is not None:
            marked = self._reasoned(reason, filter)
            tests.append(lambda t: pa.array(np.isin(keys_of(t["id"], 0), marked)))
        if search is not None:
            tests.append(lambda t: containing(t["text"], search))
        return self.sample("dropped", n, seed, _all(tests), ["filter"] + ["text"] * (search is not None))

    def _reasoned(self, reason: str, filter: str | None) -> np.ndarray:
        """Marks, of eight bytes each, for the documents dropped for a reason that contains `reason`."""

        def fits(t: pa.Table) -> pa.ChunkedArray:
            mine = pc.and_(pc.equal(t["action"], "drop"), containing(t["reason"], reason))
            return mine if filter is None else pc.and_(mine, pc.equal(t["filter"], filter))

        marks = [keys_of(table["id"], 0) for table in self.verdicts(fits, ["id", "filter", "action", "reason"])]
        return np.concatenate(marks) if marks else np.empty(0, np.uint64)


def judgement(row: dict[str, Any]) -> Judgement:
    """A row of `verdicts.parquet`, but for the id."""
    spans = tuple((span["start"], span["end"]) for span in row["spans"] or ())
    return Judgement(**(row | {"spans": spans}))


def containing(column: pa.ChunkedArray, words: str) -> pa.ChunkedArray:
    """Which texts contain these characters, in upper or lower case; they are no pattern."""
    return pc.match_substring(column, words, ignore_case=True)


def nearest(text: str, known: Sequence[str], otherwise: str) -> str:
    """The remedy for a name that is not there: the one like it, or what there is."""
    return did_you_mean(text, known, f"{otherwise} {', '.join(known) or 'none'}", cutoff=0.5)


def _all(tests: Sequence[Choose]) -> Choose | None:
    if not tests:
        return None

    def choose(table: pa.Table) -> pa.Array | pa.ChunkedArray:
        chosen = tests[0](table)
        for test in tests[1:]:
            chosen = pc.and_(chosen, test(table))
        return chosen

    return choose
