"""Small prepared corpora with all that a record can hold, hostile texts among them."""

import json
import re
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.stages.prepare import Prepare
from bloomery.stages.record import Record
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.text.documents import Document, to_batch
from bloomery.text.filters import ExactDuplicates, Filter, Length, Normalise, Verdicts
from bloomery.text.filters.filter import SPANS
from bloomery.text.readers import Damage, Reader
from bloomery.text.readers.reader import warn

HOSTILE = (
    "</script><script>alert(1)</script> <img src=x onerror=alert(2)> [bold red]markup[/] \x1b]0;title\x07\x1b[2J \u202egnp.exe "
    "```\n# heading | cell \x9b31m &lt; <!-- --> ]]> {{7*7}} $x$ write to jo.doe@example.com."
)


def rows():
    """Two hundred documents: every tenth is short, every seventh repeats the first, every fifth has DOS newlines, two are hostile."""
    for i in range(200):
        if i % 10 == 0:
            text = f"tiny {i}"
        elif i % 7 == 0:
            text = "The same old story, told once more to whoever listens."
        else:
            text = f"Document number {i}, " + "which goes on for a while, " * (1 + i % 9) + "and ends." + ("\r\n" if i % 5 == 0 else "")
        yield {"text": text, "language": "en" if i % 3 else "de", "licence": "cc0-1.0"}
    yield {"text": HOSTILE, "language": "en", "licence": "cc0-1.0"}
    yield {"text": HOSTILE, "language": "en", "licence": "cc0-1.0"}


class Decontaminating(Filter):
    """Drops what matches a pattern, as if it were a test item."""

    pattern: ClassVar[str]

    def __call__(self, batch):
        found = [re.search(self.pattern, text) for text in batch["text"].to_pylist()]
        reasons = pa.array([f"holds test item {match[0]!r}" if match else None for match in found], pa.string())
        spans = pa.array([[{"start": match.start(), "end": match.end()}] if match else None for match in found], SPANS)
        return Verdicts(batch=batch, reasons=reasons, dropped=pc.is_valid(reasons), spans=spans)


class DecontaminateNumbers(Decontaminating):
    """Drops what names a number that ends in 3, as if it were a test item."""

    pattern = r"number \d*3,"


class Rows(Reader):
    """The documents above; one record of theirs cannot be read."""

    def batches(self, after=None, on_damage=warn):
        every = enumerate(rows(), 1)
        documents = [Document(f"rows.jsonl#L{i}", row.pop("text"), "shelf/rows.jsonl", None, json.dumps(row)) for i, row in every]
        documents = documents[next((i for i, d in enumerate(documents, 1) if d.id == after), 0) :]
        on_damage(Damage("rows.jsonl#L500", "cut off in the middle", 7))
        yield to_batch(documents)


def record_of(folder, **fields):
    """The record of these documents when prepared."""
    given = {"filters": (Normalise(), Length(min_chars=20, max_chars=200), ExactDuplicates()), "held_out": 0.1, "shard_bytes": 4000}
    return Record(Prepare(source=Rows(), **(given | fields)).run(RunContext(store=Store(folder / "store"), quiet=True)))
