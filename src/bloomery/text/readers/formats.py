"""The kinds of file: each turned into batches of documents, from a given row on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bloomery.core.errors import DataError
from bloomery.core.units import human_bytes
from bloomery.text.documents import BATCH_ROWS, DOCUMENTS, Document, in_batches
from bloomery.text.readers.rows import CONVERSATION_FORMS, to_document
from bloomery.text.readers.streams import chunks, decoded, pieces, whole


@dataclass(frozen=True, kw_only=True)
class Format:
    """How to read one file.

    Attributes:
        text_column, meta_columns, encoding, separator, limit: as the fields of `Files`; `limit` is `max_document_bytes`.
    """

    text_column: str
    meta_columns: Sequence[str]
    encoding: str
    separator: str
    limit: int

    def read(self, file: BinaryIO, name: str, skip: int) -> Iterator[pa.RecordBatch]:
        """The documents of a file, by its suffix, without the first `skip` of them."""
        plain = bare(name)
        if plain.endswith(".parquet"):
            return self._parquet(file, name, skip)
        if plain.endswith((".jsonl", ".ndjson")):
            return in_batches(self._lines(file, name, skip))
        if plain.endswith(".json"):
            return in_batches(self._json(file, name, skip))
        return in_batches(self._text(file, name, skip))

    def _text(self, file: BinaryIO, name: str, skip: int) -> Iterator[Document]:
        if not self.separator:
            if not skip:
                yield Document(name, decoded(whole(chunks(file, name), name, self.limit), self.encoding, name), name)
            return
        separator = self.separator.encode(self.encoding)
        offset = 0
        for number, piece in enumerate(pieces(chunks(file, name), separator, self.limit, self._too_long(name, "part")), 1):
            if number > skip:
                yield Document(f"{name}#D{number}", decoded(piece, self.encoding, name, offset), name)
            offset += len(piece) + len(separator)

    def _lines(self, file: BinaryIO, name: str, skip: int) -> Iterator[Document]:
        if self.encoding.lower().startswith(("utf-16", "utf-32", "utf_16", "utf_32", "utf16", "utf32")):
            raise DataError(f"{name} is read line by line, which encoding={self.encoding!r} does not allow; convert it to utf-8")
        offset = 0
        for number, line in enumerate(pieces(chunks(file, name), b"\n", self.limit, self._too_long(name, "line")), 1):
            if number > skip and line.strip():
                text = decoded(line, self.encoding, f"{name}, line {number},", offset)
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError) as error:
                    what = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
                    raise DataError(f"{name}, line {number}: not JSON ({what}); mend or drop the line") from None
                yield to_document(row, f"{name}#L{number}", name, self.text_column, self.meta_columns)
            offset += len(line) + 1

    def _json(self, file: BinaryIO, name: str, skip: int) -> Iterator[Document]:
        text = decoded(whole(chunks(file, name), name, self.limit), self.encoding, name)
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            hint = "rename it to .jsonl if it holds one object per line" if "Extra data" in str(error) else "mend the file"
            raise DataError(f"{name} is not JSON ({error}); {hint}") from None
        for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
            if number > skip:
                yield to_document(row, f"{name}#R{number}", name, self.text_column, self.meta_columns)

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
                for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                    first, number = number, number + batch.num_rows
                    if number > skip:
                        cut = max(0, skip - first)
                        yield from self._rows(batch.slice(cut), name, first + cut)
        except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
            raise DataError(f"{name} does not read as Parquet ({str(error).splitlines()[0]}); fetch or write it again") from None

    def _columns(self, schema: pa.Schema, name: str) -> list[str]:
        """The columns to read: those of the text or of the first conversation form that is there, and the meta columns."""
        forms = ((self.text_column,), *CONVERSATION_FORMS)
        form = next((form for form in forms if set(form) <= set(schema.names)), None)
        if form is None:
            known = ", ".join(map(repr, schema.names))
            raise DataError(f"{name} has no column {self.text_column!r}; it has {known}; choose one with Files(text_column=…)")
        return [c for c in schema.names if c in form or c in self.meta_columns or (c == "input" and "instruction" in form)]

    def _rows(self, batch: pa.RecordBatch, name: str, first: int) -> Iterator[pa.RecordBatch]:
        ids = [f"{name}#R{number}" for number in range(first + 1, first + 1 + batch.num_rows)]
        column = batch.column(self.text_column) if self.text_column in batch.schema.names else None
        if column is not None and pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column is None or self.meta_columns or not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            rows = zip(batch.to_pylist(), ids, strict=True)
            yield from in_batches(to_document(row, id, name, self.text_column, self.meta_columns) for row, id in rows)
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


def bare(name: str) -> str:
    """A file's name without what says how it is compressed, in lower case."""
    name = name.lower()
    return next((name.removesuffix(s) for s in (".gz", ".zst", ".bz2", ".xz") if name.endswith(s)), name)
