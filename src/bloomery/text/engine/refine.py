"""`refine`: a source and filters made into a corpus, part by part, on any number of workers, with the same bytes.

Filters that judge each document by itself run in one pass over the parts. A global filter ends a pass with its notes; when all parts have been
noted it decides on the whole; the next pass begins by carrying its decisions out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.store import read_json, write_json
from bloomery.store.files import atomic_file
from bloomery.text.documents import DOCUMENTS, read_parquet
from bloomery.text.engine.executor import Executor
from bloomery.text.engine.passes import Part, Pass, noted
from bloomery.text.engine.tables import read_arrow, write_arrow, write_table
from bloomery.text.filters import VERDICTS, Filter, Flow, GlobalFilter, Operator, names_of
from bloomery.text.filters.filter import between, named, shifted
from bloomery.text.readers import Damage, Reader

WORK = "work"  # the folder, within the output, for what only an unfinished run needs
CLEARING = "work.clearing"  # the same, when it is no longer needed
READING = "Reading"  # what verdicts on what could not be read call their filter

Mark = dict[str, Any]
"""What is known of a part when a pass over it is done."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What came out.

    Attributes:
        read: the marks of the first pass: "read" and "bytes" say how much there was.
        parts: the marks of the last pass: "rows" and "bytes_out" say how much is in the files of the corpus.
        damage: what could not be read.
        funnel: what each filter did.
        bounds: for each measure, the least and the most that stays.
    """

    read: Sequence[Mark]
    parts: Sequence[Mark]
    damage: Sequence[Damage]
    funnel: Sequence[Flow]
    bounds: dict[str, list[float | None]]


@dataclass(frozen=True, kw_only=True)
class Refinery:
    """How a corpus is made. All but `executor` and `progress` decides the result.

    Attributes:
        source: where the documents come from.
        filters: applied one after the other.
        known: the document shards of corpora that are there already, in order: global filters look at them, too.
        part_bytes: text per part.
        held_out, keep_dropped: as in `Pass`.
        output: the folder to fill; an interrupted run is gone on with.
        executor: who works.
        open: makes a filter ready for work.
        progress: told how far it is, as often as it likes.
    """

    source: Reader
    filters: Sequence[Filter]
    known: Sequence[Path]
    part_bytes: int
    held_out: float
    keep_dropped: float
    output: Path
    executor: Executor
    open: Callable[[Filter], Operator]
    progress: Callable[[str], None]
    _trailing: list[Damage] = field(default_factory=list, repr=False)

    def run(self) -> Refined:
        """Makes the corpus."""
        work = self.output / WORK
        if (self.output / CLEARING).exists():
            shutil.rmtree(self.output / CLEARING)
        passes = self._passes(work)
        funnel: dict[str, Flow] = {}
        bounds: dict[str, list[float | None]] = {}
        first: list[Mark] = []
        damage: list[Damage] = []
        marks: dict[int, Mark] = {}
        for step in passes:
            marks = self._done(step)
            tasks = self._read(step, marks) if step.number == 0 else [Part(n) for n in range(len(first)) if n not in marks]
            for mark in self.executor.map(step, tasks):
                marks[mark["part"]] = mark
                step.forget(mark["part"])
                documents = sum(mark.get("read", mark["documents"]) for mark in marks.values())
                self.progress(f"pass {step.number + 1} of {len(passes)}, part {mark['part'] + 1}, {documents} documents")
            if step.number == 0:
                first = [marks[number] for number in sorted(marks)]
                damage = self._close(step, first)
            for mark in marks.values():
                for flow in mark["flows"]:
                    funnel.setdefault(flow["filter"], Flow(flow["filter"])).add(Flow(**flow))
                bounds |= mark["bounds"]
            if step.noting is not None and first:
                self._resolve(step, [marks[number] for number in sorted(marks)])
        last = [marks[number] for number in sorted(marks)]
        self._join_verdicts([passes[-1].file(mark["part"], "final") for mark in last], damage)
        return Refined(read=first, parts=last, damage=damage, funnel=list(funnel.values()), bounds=bounds)

    def clear(self) -> None:
        """Removes what only an unfinished run needs; the corpus must be safe by then."""
        (self.output / WORK).rename(self.output / CLEARING)  # a folder half removed must not be taken for one half filled
        shutil.rmtree(self.output / CLEARING)

    def _passes(self, work: Path) -> list[Pass]:
        carry: tuple[str, GlobalFilter] | None = None
        operators: list[tuple[str, Operator]] = []
        passes: list[Pass] = []
        make = partial(Pass, folder=work, output=self.output, held_out=self.held_out, keep_dropped=self.keep_dropped)
        for name, filter in zip(names_of(self.filters), self.filters, strict=True):
            opened = self.open(filter)
            if isinstance(opened, GlobalFilter):
                passes.append(make(number=len(passes), carry=carry, operators=tuple(operators), noting=opened))
                carry, operators = (name, opened), []
            else:
                operators.append((name, opened))
        return [*passes, make(number=len(passes), carry=carry, operators=tuple(operators), noting=None)]

    def _close(self, step: Pass, marks: Sequence[Mark]) -> list[Damage]:
        """Notes that the source has been read to its end; returns what of it could not be read, each once: a resumed run meets some twice."""
        end = step.folder / "0-end.json"
        if not end.exists():
            write_json(end, {"damage": [asdict(damage) for damage in self._trailing]})
        found = [damage for mark in marks for damage in mark["damage"]] + read_json(end)["damage"]
        return list({plain["id"]: Damage(**plain) for plain in found}.values())

    def _done(self, step: Pass) -> dict[int, Mark]:
        marks = [read_json(path) for path in sorted(step.folder.glob(f"{step.number}-*[0-9].json"))]
        if step.number == 0 and not (step.folder / "0-end.json").exists():
            marks = [mark for place, mark in enumerate(marks) if mark["part"] == place]  # reading goes on behind an unbroken beginning
        return {mark["part"]: mark for mark in marks}

    def _read(self, step: Pass, done: Mapping[int, Mark]) -> Iterator[Part]:
        if (step.folder / "0-end.json").exists():
            return
        last = done[len(done) - 1]["last"] if done else None
        damage: list[Damage] = []
        for number, part in enumerate(parts(self.source.batches(after=last, on_damage=damage.append), self.part_bytes), len(done)):
            found, damage[:] = tuple(damage), ()
            write_arrow(step.file(number, "docs", -1), DOCUMENTS, part)
            yield Part.of(number, part, found)
        self._trailing[:] = damage

    def _resolve(self, step: Pass, marks: Sequence[Mark]) -> None:
        """Lets the global filter decide, and lays the decisions beside the parts that they are about."""
        resolved = step.folder / f"{step.number}-resolved.json"
        if resolved.exists():
            return
        self.progress(f"deciding on {sum(mark['documents'] for mark in marks)} documents")
        filter = step.noting
        assert filter is not None
        known = list(self.executor.map(partial(note_known, filter, step.folder, step.number), list(enumerate(self.known))))
        files = [step.folder / f"{step.number}-known-{k:05d}.notes" for k in range(len(known))] + [step.file(m["part"], "notes") for m in marks]
        starts = np.cumsum([0, *known, *(mark["documents"] for mark in marks)]).tolist()
        scratch = step.folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        decisions = filter.resolve(NotesOnDisk(files, starts, starts[len(known)], scratch))
        shutil.rmtree(scratch)
        if "of" in decisions.column_names:
            decisions = named_on_disk(decisions, [*self.known, *(step.file(m["part"], "docs") for m in marks)], starts)
        for mark, start, end in zip(marks, starts[len(known) :], starts[len(known) + 1 :], strict=False):
            write_table(step.file(mark["part"], "decisions"), between(decisions, start, end))
        write_json(resolved, {"decisions": decisions.num_rows})

    def _join_verdicts(self, books: Sequence[Path], damage: Sequence[Damage]) -> None:
        """Writes the record of what happened to which document; what could not be read comes last."""
        lost = [{"id": d.id, "filter": READING, "action": "drop", "reason": d.reason, "value": float(d.bytes)} for d in damage]
        with atomic_file(self.output / "verdicts.parquet") as file, pq.ParquetWriter(file, VERDICTS, compression="zstd") as writer:
            for book in books:
                for batch in read_arrow(book):
                    writer.write_batch(batch)
            writer.write_batch(pa.RecordBatch.from_pylist(lost, schema=VERDICTS))


def note_known(filter: GlobalFilter, folder: Path, number: int, shard: tuple[int, Path]) -> int:
    """Notes the documents of a shard that is there already; returns how many they are."""
    place, path = shard
    batches = list(read_parquet([path]))
    write_table(folder / f"{number}-known-{place:05d}.notes", noted(filter, batches))
    return sum(batch.num_rows for batch in batches)


@dataclass(frozen=True)
class NotesOnDisk:
    """The `Notes` of a corpus: one file per part."""

    files: Sequence[Path]
    starts: Sequence[int]
    first: int
    scratch: Path

    @property
    def rows(self) -> int:
        """How many documents there are."""
        return self.starts[-1]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The notes, file by file and batch by batch."""
        for path, start in zip(self.files, self.starts, strict=False):
            for batch in read_arrow(path, columns):
                table = pa.Table.from_batches([batch])
                yield shifted(table, start) if "row" in table.column_names else table


def named_on_disk(decisions: pa.Table, files: Sequence[Path], starts: Sequence[int]) -> pa.Table:
    """As `named`, with the ids found in the files of the documents."""
    wanted = pc.unique(decisions["of"]).sort().to_numpy()
    ids: list[pa.Array] = []
    for path, start, end in zip(files, starts, starts[1:], strict=False):
        low, high = np.searchsorted(wanted, (start, end)).tolist()
        if low < high:
            batches = read_parquet([path], ["id"]) if path.suffix == ".parquet" else read_arrow(path, ["id"])
            column = pa.chunked_array([batch.column("id") for batch in batches], pa.string())
            ids.append(column.take(pa.array(wanted[low:high] - start)).combine_chunks())
    places = decisions.set_column(decisions.schema.get_field_index("of"), "of", pa.array(np.searchsorted(wanted, decisions["of"].to_numpy())))
    return named(places, pa.chunked_array(ids, pa.string()))


def parts(batches: Iterator[pa.RecordBatch], part_bytes: int) -> Iterator[list[pa.RecordBatch]]:
    """Groups the rows of a stream into runs that end with the row in which `part_bytes` of text are reached, whatever the batches were."""
    part: list[pa.RecordBatch] = []
    room = part_bytes
    for batch in batches:
        sizes = pc.fill_null(pc.binary_length(batch.column("text")), 0).to_numpy().astype(np.int64)
        start = 0
        while start < batch.num_rows:
            total = np.cumsum(sizes[start:])
            last = int(np.searchsorted(total, room))  # the row that fills the part, or none
            taken = min(last + 1, batch.num_rows - start)
            part.append(batch.slice(start, taken))
            room -= int(total[taken - 1])
            start += taken
            if room <= 0:
                yield part
                part, room = [], part_bytes
    if part:
        yield part
