"""Files of a form of their own (web pages and archives, wiki dumps, books, notes with front matter), which are read on over damage."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from bloomery.core.errors import DataError
from bloomery.text.documents import Document
from bloomery.text.readers import archives, books, wiki
from bloomery.text.readers.reader import Damage
from bloomery.text.readers.streams import bare, chunks, whole
from bloomery.text.readers.unpacked import Unpacked
from bloomery.text.readers.web import HTML, codec, decoded_page, page

ARCHIVES = {".warc": archives.Warc(), ".wet": archives.Warc(), ".wat": archives.Warc(), ".arc": archives.Arc()}
WANTED = frozenset({"response", "resource", "conversion"})
PAGE_SUFFIXES = (".html", ".htm", ".xhtml")


def archive_of(name: str) -> archives.Dialect | None:
    """How the records of a file are told, if its name says that it is an archive ("x.warc.gz", also "x.warc.gz.part")."""
    return next((ARCHIVES[s] for s in PurePosixPath(name.lower()).suffixes if s in ARCHIVES), None)


def from_archive(file: BinaryIO, name: str, behind: str | None, limit: int, types: Sequence[str]) -> Iterator[Document | Damage]:
    """The pages of a web archive, and what is broken in it.

    Args:
        file: the archive, in which one can go to and fro.
        name: of the file; a page's id is this, "#" and where its record begins.
        behind: where the record began that was read last; reading goes on behind it.
        limit: bytes that a page may have.
        types: the media types to read.
    """
    dialect = archive_of(name)
    assert dialect is not None
    offset, _, inner = (behind or "0").partition("+")
    archive = Unpacked(file, name, dialect.is_start, int(offset), int(inner or 0))
    for record in archives.records(archive, dialect, name, limit, WANTED):
        if isinstance(record, Damage):
            yield record
        elif record.place != behind and (found := page(record, name, limit, types)) is not None:
            yield found


def from_page(file: BinaryIO, name: str, limit: int, encoding: str) -> Iterator[Document | Damage]:
    """A file of HTML: its markup, whose `meta` says so, for a filter to make text of."""
    try:
        data = whole(chunks(file, name), name, limit)
    except DataError as error:
        yield Damage(name, str(error))
        return
    text, charset = decoded_page(data, None if encoding == "utf-8" else codec(encoding))
    yield Document(name, text, name, None, json.dumps({"content_type": HTML, "charset": charset}))


def from_dump(file: BinaryIO, name: str, skip: int, limit: int, namespaces: Sequence[int]) -> Iterator[Document | Damage]:
    """The articles of a wiki's dump."""
    fault: list[DataError] = []

    def stream() -> Iterator[bytes]:
        try:
            yield from chunks(file, name)
        except DataError as error:
            fault.append(error)

    yield from wiki.pages(stream(), name, limit, namespaces, skip)
    for error in fault:
        yield Damage(name, str(error))


def from_book(file: BinaryIO, name: str, limit: int) -> Iterator[Document | Damage]:
    """A book in EPUB or PDF."""
    yield (books.epub if bare(name).endswith(".epub") else books.pdf)(file, name, limit)


_FRONT = re.compile(r"(---|\+\+\+)[ \t]*\r?\n")
_KEY = re.compile(r"([A-Za-z][\w -]{0,60}):(?:[ \t]+(.*))?$")
FRONT_LENGTH = 1 << 16


def front_matter(text: str) -> tuple[dict[str, object] | None, str]:
    """What Markdown says of itself at its head between lines of "---" (plain keys, values and lists of YAML) or "+++" (TOML), and the rest.

    None and the whole text where there is no such head, or none that can be understood.
    """
    if not (start := _FRONT.match(text)):
        return None, text
    end = re.compile(rf"\n{re.escape(start[1])}[ \t]*(?:\r?\n|$)").search(text, start.end() - 1, FRONT_LENGTH)
    if not end:
        return None, text
    head, rest = text[start.end() : end.start() + 1], text[end.end() :].lstrip("\r\n")
    if start[1] == "+++":
        try:
            return json.loads(json.dumps(tomllib.loads(head.replace("\r\n", "\n")), default=str)), rest
        except (tomllib.TOMLDecodeError, RecursionError):
            return None, text
    meta: dict[str, object] = {}
    key = ""
    for line in head.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.startswith("- ") and key:
            items = meta[key] if isinstance(meta[key], list) else []
            meta[key] = [*items, _scalar(stripped[2:])]  # pyrefly: ignore[not-iterable] (checked in the line above)
        elif found := _KEY.match(line):
            key, value = found[1], (found[2] or "").strip()
            listed = value.startswith("[") and value.endswith("]")
            meta[key] = [_scalar(item) for item in value[1:-1].split(",") if item.strip()] if listed else _scalar(value)
        elif not line[0].isspace():
            return None, text  # a rule and a paragraph, not keys
    return meta, rest


def _scalar(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
