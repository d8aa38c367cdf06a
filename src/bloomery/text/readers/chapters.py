"""`Chapters`: the chapters or paragraphs of another source's books and papers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.text.documents import Document
from bloomery.text.readers.headings import Section, sections, title_of
from bloomery.text.readers.reader import Damage, OnDamage, Reader, gathered, warn

_ID = re.compile(r"(.*)#C([0-9]+)(?:P([0-9]+))?", re.DOTALL)
_PARAGRAPHS = re.compile(r"\n[ \t\r]*\n")


class Chapters(Reader):
    """Books and papers cut at their headings; `meta` has title (of the whole), chapter, part, and number, beside what the source said.

    Headings are those of LaTeX, of Markdown (so those of dumps and EPUBs, too), or lines like "CHAPTER IV. The Storm", "Erstes Kapitel",
    "BOOK THE SECOND". What precedes the first one is chapter 0; a text without headings is one chapter. Headings are not part of the text.
    Conversations pass as they are.

    Example:
        >>> Chapters(source=Files(path="novels", include=("*.txt",)))
        >>> Chapters(source=Files(path="papers.jsonl"), into="paragraphs")
    """

    source: Reader
    """Where the books come from."""
    into: Literal["chapters", "paragraphs"] = "chapters"
    """What becomes a document: a chapter, or each of its paragraphs, as empty lines part them."""
    depth: int = Field(default=2, ge=1, le=6)
    """The level down to which headings of LaTeX and Markdown begin chapters: 1 are parts and chapters, 2 sections, 3 subsections."""

    def batches(self, after: str | None = None, on_damage: OnDamage = warn) -> Iterator[pa.RecordBatch]:
        yield from gathered(self._documents(after), on_damage)

    def total_bytes(self) -> int | None:
        return self.source.total_bytes()

    def _documents(self, after: str | None) -> Iterator[Document | Damage]:
        found = _ID.fullmatch(after) if after is not None else None
        if found is None:
            for row in self._rows(after):
                yield from [row] if isinstance(row, Damage) else self._cut(row)
            return
        book, place = found[1], (int(found[2]), int(found[3] or 0))
        reached = False
        for row in self._rows(None):  # the book itself is needed again, and sources go on behind an id only
            if reached:
                yield from [row] if isinstance(row, Damage) else self._cut(row)
            elif not isinstance(row, Damage) and row["id"] == book:
                reached = True
                yield from (document for document in self._cut(row) if _place(document.id) > place)
        if not reached:
            raise DataError(f"Chapters.source holds no {book!r} to go on in; the source is not the one that was read")

    def _rows(self, after: str | None) -> Iterator[dict[str, Any] | Damage]:
        damage: list[Damage] = []
        for batch in self.source.batches(after, damage.append):
            yield from damage
            damage.clear()
            for i in range(batch.num_rows):
                yield from batch.slice(i, 1).to_pylist()
        yield from damage

    def _cut(self, row: dict[str, Any]) -> Iterator[Document]:
        if row["messages"] is not None:
            yield Document(**row)
            return
        text = row["text"]
        said = json.loads(row["meta"]) if row["meta"] else {}
        said.setdefault("title", title_of(text))
        found = sections(text, self.depth)
        first = 0 if found and found[0].title is None and len(found) > 1 else 1
        for number, section in enumerate(found, first):
            meta = {**said, "chapter": section.title, "part": section.part, "number": number}
            for id, words, more in self._pieces(f"{row['id']}#C{number}", text, section):
                yield Document(id, words, row["source"], None, json.dumps(meta | more, ensure_ascii=False))

    def _pieces(self, id: str, text: str, section: Section) -> Iterator[tuple[str, str, dict[str, int]]]:
        words = text[section.start : section.end].strip("\r\n")
        if self.into == "chapters":
            yield id, words, {}
            return
        paragraphs = (paragraph.strip("\r\n") for paragraph in _PARAGRAPHS.split(words))
        for number, paragraph in enumerate((p for p in paragraphs if p.strip()), 1):
            yield f"{id}P{number}", paragraph, {"paragraph": number}


def _place(id: str) -> tuple[int, int]:
    found = _ID.fullmatch(id)
    return (int(found[2]), int(found[3] or 0)) if found else (0, 0)
