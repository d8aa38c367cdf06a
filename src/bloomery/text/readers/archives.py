"""Web archives (WARC, ARC): their records one by one, up to the last good one; what is broken is named and passed over.

Source: ISO 28500:2017 (WARC 1.1) and the ARC 1.0 and 2.0 of the Internet Archive; departures: digests are not compared, a record may lie
across compressed members, fields without a colon are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from bloomery.core.units import human_bytes
from bloomery.text.readers.reader import Damage
from bloomery.text.readers.unpacked import CHUNK, Unpacked

HEADER_BYTES = 1 << 18  # that a record's header may have
LINE_BYTES = 1 << 14  # that the one line of an ARC's header may have
SKIM = 16  # times the limit: unpacked bytes of too long a record that are looked through for its end
NEWLINES = b"\r\n"
_BLANK = re.compile(rb"[\r\n]+")


@dataclass(frozen=True)
class Record:
    """A record that is whole.

    Attributes:
        place: where it begins; see `Unpacked.place`.
        kind: "response", "conversion" …; of an ARC "response", or "warcinfo" for its head.
        fields: its header, names in lower case.
        content: its block.
    """

    place: str
    kind: str
    fields: Mapping[str, str]
    content: bytes


class _BadError(Exception):
    """A header that is none; caught where damage is named."""


class Dialect(Protocol):
    """How records are told and read."""

    seal: bytes
    """What stands behind a record and nearly never within one; empty if there is no such thing."""

    def is_start(self, head: bytes) -> bool:
        """Whether a record begins with these bytes."""
        ...

    def find(self, window: bytearray, index: int) -> int:
        """Where the next record begins, at the beginning of a line behind the index; -1 if none is seen."""
        ...

    def header(self, archive: Unpacked) -> tuple[str, dict[str, str], int, int]:
        """The kind and the fields of the record at the beginning of the window, where its content begins, and its length."""
        ...


class Warc(Dialect):
    """Records of WARC files: a version, fields, an empty line, the content, two empty lines."""

    seal = b"\r\n\r\n"
    _start = re.compile(rb"WARC/[01]\.\d+[ \t]*\r?\n")
    _end = re.compile(rb"\n\r?\n")

    def is_start(self, head: bytes) -> bool:
        return self._start.match(head.lstrip(NEWLINES)) is not None

    def find(self, window: bytearray, index: int) -> int:
        while (index := window.find(b"\nWARC/", index)) >= 0:
            if self._start.match(window, index + 1):
                return index + 1
            index += 1
        return -1

    def header(self, archive: Unpacked) -> tuple[str, dict[str, str], int, int]:
        if not (archive.fill(32) or archive.window) or not self._start.match(archive.window):
            raise _BadError("no record begins here")
        seen = 0
        while not (end := self._end.search(archive.window, max(0, seen - 2), HEADER_BYTES)):
            seen = len(archive.window)
            if seen >= HEADER_BYTES or not archive.fill(seen + 1):
                raise _BadError(archive.fault or ("its header does not end" if seen >= HEADER_BYTES else "its header is cut off"))
        fields: dict[str, str] = {}
        name = ""
        for line in archive.window[: end.start()].decode("utf-8", "replace").splitlines()[1:]:
            if line[:1] in (" ", "\t") and name:
                fields[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields.setdefault(name, value.strip())
        return fields.get("warc-type", "").lower(), fields, end.end(), _length(fields.get("content-length"))


class Arc(Dialect):
    """Records of ARC files: one line of URL, address, date, type and length (ARC 2.0 has more between them), and the content."""

    seal = b""
    _line = re.compile(rb"\n(?=[a-z][a-z0-9+.-]{1,20}:)")

    def is_start(self, head: bytes) -> bool:
        line, newline, _ = head.lstrip(NEWLINES).partition(b"\n")
        return bool(newline) and self._fields(line) is not None

    def find(self, window: bytearray, index: int) -> int:
        for match in self._line.finditer(window, index):
            end = window.find(b"\n", match.end(), match.end() + LINE_BYTES)
            if end >= 0 and self._fields(bytes(window[match.end() : end])):
                return match.end()
        return -1

    def header(self, archive: Unpacked) -> tuple[str, dict[str, str], int, int]:
        archive.fill(LINE_BYTES)
        end = archive.window.find(b"\n", 0, LINE_BYTES)
        parts = self._fields(bytes(archive.window[:end])) if end >= 0 else None
        if parts is None:
            raise _BadError("no record begins here")
        url, date, mime, length = parts
        if date.isdigit() and len(date) >= 14:
            date = f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:14]}Z"
        kind = "warcinfo" if url.startswith("filedesc:") else "response"
        fields = {"warc-target-uri": url, "warc-date": date, "content-type": "application/http" if kind == "response" else mime}
        return kind, fields | {"identified-type": mime}, end + 1, _length(length)

    @staticmethod
    def _fields(line: bytes) -> tuple[str, str, str, str] | None:
        """URL (in which blanks happen), date, type and length of a header's line."""
        text = line.decode("utf-8", "replace").rstrip("\r")
        for more in (0, 5):  # ARC 2.0 has a result code, a checksum, a location, an offset and a file name before the length
            parts = text.rsplit(" ", 4 + more)
            if len(parts) == 5 + more and parts[2].isdigit() and 12 <= len(parts[2]) <= 18 and ":" in parts[0]:
                return parts[0], parts[2], parts[3], parts[-1]
        return None


def records(archive: Unpacked, dialect: Dialect, name: str, limit: int, wanted: frozenset[str]) -> Iterator[Record | Damage]:
    """The records of an archive, and what is broken between them, in their order.

    Args:
        archive: the archive's bytes.
        dialect: how its records are told.
        name: of the archive, for damage.
        limit: bytes that a record's content may have.
        wanted: the kinds of records to give; the others are only passed over.
    """
    while True:
        while archive.fill(1) and (blank := _BLANK.match(archive.window)):
            archive.drop(blank.end())
        place = archive.place()
        if not archive.window:
            if archive.fault is None:
                return
            yield Damage(f"{name}#{place}", archive.fault, archive.mend())
            continue
        begin, known = 0, True
        try:
            kind, fields, begin, length = dialect.header(archive)
            known = kind in wanted
            end = begin + length
            if length > limit:
                reason = f"expands beyond max_document_bytes={limit} ({human_bytes(limit)})" if known else ""
                lost = _skim(archive, dialect, begin, end, SKIM * limit)
            elif tail := _good_end(archive, dialect, end):
                if known:
                    yield Record(place, kind, fields, bytes(memoryview(archive.window)[begin:end]))
                archive.drop(tail)
                continue
            else:
                have = len(archive.window) - begin
                reason = archive.fault or (
                    f"is cut off: {have} of its {length} bytes are there" if have < length
                    else f"its Content-Length of {length} does not lead to the next record"
                )  # fmt: skip
                lost = _skim(archive, dialect, begin, None, SKIM * limit)
        except _BadError as error:
            reason = str(error)
            lost = _skim(archive, dialect, max(begin, 1), None, SKIM * limit)
        if reason:
            yield Damage(f"{name}#{place}", reason, lost)


def _good_end(archive: Unpacked, dialect: Dialect, end: int) -> int:
    """Where the record behind the one that ends at this index begins; 0 if the record is not whole or the index is not its end."""
    tail = end
    while archive.fill(tail + 1) and archive.window[tail] in NEWLINES:
        tail += 1
    if len(archive.window) < end:
        return 0
    if len(archive.window) == tail:  # the end of the archive, or of what can be unpacked: was it the member of this record that broke?
        return tail if archive.fault is None or tail in archive.members(tail) else 0
    if dialect.seal and archive.window.startswith(dialect.seal, end):
        return tail
    archive.fill(tail + LINE_BYTES)
    return tail if tail in archive.members(tail) or dialect.is_start(bytes(archive.window[tail : tail + LINE_BYTES])) else 0


def _skim(archive: Unpacked, dialect: Dialect, index: int, end: int | None, most: int) -> int:
    """Goes to the next record behind an index, or to an index known to be this record's end; returns the bytes passed over.

    Where neither comes within `most` bytes, the rest of the compressed member is given up.
    """
    passed = 0
    while True:
        starts = [at for at in archive.members(max(index, 1)) if dialect.is_start(bytes(archive.window[at : at + LINE_BYTES]))]
        if (found := dialect.find(archive.window, max(0, index - 1))) >= 0:
            starts.append(found)
        if end is not None and end - passed <= len(archive.window):
            starts.append(end - passed)
        if starts:
            archive.drop(min(starts))
            return passed + min(starts)
        if archive.fault is not None or (archive.packed and passed > most):
            return max(passed + len(archive.window), archive.mend())
        keep = min(len(archive.window), LINE_BYTES)  # a beginning may lie across the edge
        passed += len(archive.window) - keep
        archive.drop(len(archive.window) - keep)
        index = 1
        if not archive.fill(keep + CHUNK) and len(archive.window) == keep:
            if archive.fault is not None:
                continue
            archive.drop(keep)
            return passed + keep


def _length(value: str | None) -> int:
    if value is None or not re.fullmatch(r"[0-9]{1,18}", value):
        raise _BadError("it has no Content-Length" if value is None else f"its length {value[:20]!r} is not a number")
    return int(value)
