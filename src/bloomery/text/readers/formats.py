"""The kinds of file: each turned into batches of documents, from a given row on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import DataError
from bloomery.core.units import human_bytes
from bloomery.text.documents import DOCUMENTS, Document, in_batches, rows_at_once
from bloomery.text.readers import tables, wiki
from bloomery.text.readers.containers import PAGE_SUFFIXES, archive_of, from_archive, from_book, from_dump, from_page, front_matter
from bloomery.text.readers.reader import Damage, OnDamage, gathered, warn
from bloomery.text.readers.rows import Rows, rows_of, to_documents
from bloomery.text.readers.streams import bare, chunks, decoded, pieces, whole
from bloomery.text.readers.web import PAGES

HEAD_BYTES = 1 << 14  # by which a kind of XML is told
DUMP = re.compile(r"\.xml(?:-p[0-9]+p[0-9]+[\w-]*)?$")  # also "….xml-p1p41242.bz2", as Wikipedia cuts its own


@dataclass(frozen=True, kw_only=True)
class Format:
    """How to read one file.

    Attributes:
        text_column, meta_columns, encoding, separator, limit, rows: as the fields of `Files`; `limit` is `max_document_bytes`.
        content_types, namespaces: as the fields of `Files`.
        on_damage: told of rows that are passed over.
    """

    text_column: str
    meta_columns: Sequence[str]
    encoding: str
    separator: str
    limit: int
    rows: Rows = field(default_factory=Rows)
    on_damage: OnDamage = warn
    content_types: Sequence[str] = PAGES
    namespaces: Sequence[int] = (0,)

    def read(self, file: BinaryIO, name: str, behind: str | None = None) -> Iterator[pa.RecordBatch]:
        """The documents of a file, by its suffix.

        Args:
            file: the file.
            name: its name, which ids begin with.
            behind: what follows "#" in the id of the document to go on behind; empty if the file is one document, which was read.
        """
        if archive_of(name):
            return gathered(from_archive(file, name, behind, self.limit, self.content_types), self.on_damage)
        plain, skip = bare(name), 0 if behind is None else int(behind[1:] or 1)
        if plain.endswith(".parquet"):
            return self._parquet(file, name, skip)
        if plain.endswith((".jsonl", ".ndjson")):
            return in_batches(self._documents(self._lines(file, name, skip), name))
        if plain.endswith(".json"):
            return in_batches(self._documents(self._json(file, name, skip), name))
        if plain.endswith((".csv", ".tsv")) and not self.separator:
            return in_batches(self._documents(self._table(file, name, skip), name))
        return gathered(self._whole(file, name, plain, skip), self.on_damage)

    def _whole(self, file: BinaryIO, name: str, plain: str, skip: int) -> Iterator[Document | Damage]:
        """Files without rows."""
        if DUMP.search(plain) and not self.separator and self._is_dump(file, name):
            return from_dump(file, name, skip, self.limit, self.namespaces)
        if skip and not self.separator:
            return iter(())
        if plain.endswith(PAGE_SUFFIXES) and not self.separator:
            return from_page(file, name, self.limit, self.encoding)
        if plain.endswith((".epub", ".pdf")):
            return from_book(file, name, self.limit)
        return self._text(file, name, skip)

    def _is_dump(self, file: BinaryIO, name: str) -> bool:
        try:
            return wiki.is_dump(next(chunks(file, name), b"")[:HEAD_BYTES])
        finally:
            file.seek(0)

    def _text(self, file: BinaryIO, name: str, skip: int) -> Iterator[Document]:
        if not self.separator:
            text = decoded(whole(chunks(file, name), name, self.limit), self.encoding, name)
            meta, text = front_matter(text) if bare(name).endswith((".md", ".markdown")) else (None, text)
            yield Document(name, text, name, None, json.dumps(meta, ensure_ascii=False) if meta else None)
            return
        separator = self.separator.encode(self.encoding)
        offset = 0
        for number, piece in enumerate(pieces(chunks(file, name), separator, self.limit, self._too_long(name, "part")), 1):
            if number > skip:
                yield Document(f"{name}#D{number}", decoded(piece, self.encoding, name, offset), name)
            offset += len(piece) + len(separator)

    def _documents(self, numbered: Iterable[tuple[Any, str]], name: str) -> Iterator[Document]:
        return to_documents(numbered, name, self.text_column, self.meta_columns, self.rows, self.on_damage)

    def _table(self, file: BinaryIO, name: str, skip: int) -> Iterator[tuple[Any, str]]:
        lines = pieces(chunks(file, name), b"\n", self.limit, self._too_long(name, "line"))
        return tables.rows(lines, name, self.encoding, "\t" if bare(name).endswith(".tsv") else ",", self.limit, skip)

    def _lines(self, file: BinaryIO, name: str, skip: int) -> Iterator[tuple[Any, str]]:
        if self.encoding.lower().startswith(("utf-16", "utf-32", "utf_16", "utf_32", "utf16", "utf32")):
            raise DataError(f"{name} is read line by line, which encoding={self.encoding!r} does not allow; convert it to utf-8")
        offset = 0
        for number, line in enumerate(pieces(chunks(file, name), b"\n", self.limit, self._too_long(name, "line")), 1):
            if number > skip and line.strip():
                try:
                    yield self._row(line, name, number, offset), f"{name}#L{number}"
                except DataError as error:
                    if self.rows.on_bad_row == "stop":
                        raise
                    self.on_damage(Damage(f"{name}#L{number}", str(error), len(line)))
            offset += len(line) + 1

    def _row(self, line: bytes, name: str, number: int, offset: int) -> Any:
        text = decoded(line, self.encoding, f"{name}, line {number},", offset)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            what = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(f"{name}, line {number}: not JSON ({what}); mend or drop the line") from None

    def _json(self, file: BinaryIO, name: str, skip: int) -> Iterator[tuple[Any, str]]:
        text = decoded(whole(chunks(file, name), name, self.limit), self.encoding, name)
        try:
            whole_file = json.loads(text)
        except (ValueError, RecursionError) as error:
            hint = "rename it to .jsonl if it holds one object per line" if "Extra data" in str(error) else "mend the file"
            raise DataError(f"{name} is not JSON ({error}); {hint}") from None
        for number, row in enumerate(rows_of(whole_file), 1):
            if number > skip:
                yield row, f"{name}#R{number}"

    def _parquet(self, file: BinaryIO, name: str, skip: int) -> Iterator[pa.RecordBatch]:
        try:
            parquet = pq.ParquetFile(file)
            columns = self._columns(parquet.schema_arrow, name)
            number = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if number + rows <= skip:
                    number += rows
                    continue
                size = rows_at_once(parquet.metadata.row_group(group))
                for batch in parquet.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
                    first, number = number, number + batch.num_rows
                    if number > skip:
                        cut = max(0, skip - first)
                        yield from self._rows(batch.slice(cut), name, first + cut)
        except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
            raise DataError(f"{name} does not read as Parquet ({str(error).splitlines()[0]}); fetch or write it again") from None

    def _columns(self, schema: pa.Schema, name: str) -> list[str]:
        """The columns to read."""
        return self.rows.columns_of(schema.names, self.text_column, self.meta_columns)

    def _rows(self, batch: pa.RecordBatch, name: str, first: int) -> Iterator[pa.RecordBatch]:
        ids = [f"{name}#R{number}" for number in range(first + 1, first + 1 + batch.num_rows)]
        column = batch.column(self.text_column) if self.rows.text() and self.text_column in batch.schema.names else None
        if column is not None and pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column is None or self.meta_columns or not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            rows = zip(batch.to_pylist(), ids, strict=True)
            yield from in_batches(self._documents(rows, name))
            return
        size = pc.max(pc.binary_length(column)).as_py() or 0
        if size > self.limit:
            at = pc.index(pc.binary_length(column), pa.scalar(size, pc.binary_length(column).type)).as_py()
            raise self._too_long(name, "row")(first + 1 + at)
        text = pc.fill_null(column, "").cast(pa.string())
        n = batch.num_rows
        arrays = [pa.array(ids), text, pa.repeat(pa.scalar(name), n), pa.nulls(n, DOCUMENTS.field("messages").type), pa.nulls(n, pa.string())]
        yield pa.RecordBatch.from_arrays(arrays, schema=DOCUMENTS)

    def _too_long(self, name: str, kind: str) -> Callable[[int], DataError]:
        return lambda number: DataError(
            f"{name}, {kind} {number} is longer than max_document_bytes={self.limit} ({human_bytes(self.limit)}); "
            f"cut the {kind} into smaller ones, or raise max_document_bytes"
        )
