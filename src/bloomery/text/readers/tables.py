"""Tables in text: CSV and TSV, row by row, with bounded memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from bloomery.core.errors import DataError
from bloomery.core.units import human_bytes
from bloomery.text.readers.streams import decoded


def rows(lines: Iterator[bytes], name: str, encoding: str, delimiter: str, limit: int, skip: int) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows below the header as mappings, each with its id ("#R" and its number).

    Args:
        lines: of the file, without their ends.
        name: of the file.
        encoding: of the lines.
        delimiter: between the cells.
        limit: bytes that a row may have.
        skip: how many rows to leave out.

    Raises:
        DataError: no header, a row with more cells than it, a quote that is never closed, wrong bytes.
    """
    csv.field_size_limit(max(limit, csv.field_size_limit()))  # Python's own limit would refuse long texts; the row's bytes are counted below
    counted = _Lines(lines, name, encoding, limit)
    table = csv.reader(counted, delimiter=delimiter, strict=True)
    try:
        header = next(table, None)
        if not header:
            raise DataError(f"{name} has no header; give its columns names in its first line")
        counted.size, number = 0, 0
        for cells in table:
            counted.size = 0
            if not cells:
                continue
            number += 1
            if number <= skip:
                continue
            if len(cells) > len(header):
                has = f"has {len(cells)} cells, the header {len(header)}"
                raise DataError(f"{name}, row {number} (line {counted.number}) {has}; mend the row, or quote its text")
            yield dict(zip(header, cells + [None] * (len(header) - len(cells)), strict=True)), f"{name}#R{number}"
    except csv.Error as error:
        raise DataError(f"{name}, line {counted.number}: not CSV ({error}); mend or drop the row") from None


class _Lines:
    """Lines as text; counts those of the row at hand, so that an open quote does not swallow the file."""

    def __init__(self, lines: Iterator[bytes], name: str, encoding: str, limit: int) -> None:
        self._lines, self._name, self._encoding, self._limit = lines, name, encoding, limit
        self.size = self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self.size += len(line) + 1
        if self.size > self._limit:
            limit = f"max_document_bytes={self._limit} ({human_bytes(self._limit)})"
            raise DataError(f"{self._name}: the row up to line {self.number} is longer than {limit}; close its quote")
        return decoded(line, self._encoding, f"{self._name}, line {self.number},").replace("\0", "\ufffd") + "\n"
