"""What a document is: a row of an Arrow batch, with an id that stays the same wherever the source is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bloomery.store.files import atomic_file
from bloomery.text.tokenizer import without_surrogates

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

DOCUMENTS = pa.schema([
    pa.field("id", pa.string(), nullable=False),  # source and offset: "novels/emma.txt", "posts.jsonl#L12"; unique within a reader
    pa.field("text", pa.string(), nullable=False),  # of a conversation: its contents, one paragraph each, for filters to judge
    pa.field("source", pa.string(), nullable=False),  # the file, or the maker, that it came from
    pa.field("messages", MESSAGES),  # of a conversation; null for a plain document
    pa.field("meta", pa.string()),  # whatever else is known, as a JSON object; null where nothing is
])
"""The columns of documents and conversations, from the reader to the last shard."""

BATCH_BYTES = 8 << 20  # text in one batch, about
BATCH_ROWS = 4096


class Document(NamedTuple):
    """One row of `DOCUMENTS`, for readers whose sources come row by row."""

    id: str
    text: str
    source: str
    messages: Sequence[dict[str, str]] | None = None
    meta: str | None = None


def conversation(id: str, source: str, messages: Sequence[dict[str, Any]], meta: str | None = None) -> Document:
    """The document for a conversation: its text is the contents of the messages, one paragraph each."""
    plain = [{"role": m["role"], "content": m["content"]} for m in messages]
    return Document(id, "\n\n".join(m["content"] for m in plain), source, plain, meta)


def to_batch(documents: Sequence[Document]) -> pa.RecordBatch:
    """Documents as one batch. Lone surrogates, which UTF-8 cannot spell, become U+FFFD."""
    columns = list(zip(*documents, strict=True)) or [()] * len(DOCUMENTS)
    try:
        arrays = [pa.array(column, field.type) for column, field in zip(columns, DOCUMENTS, strict=True)]
    except UnicodeEncodeError:
        arrays = [pa.array(_cleaned(column), field.type) for column, field in zip(columns, DOCUMENTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENTS)


def in_batches(documents: Iterable[Document]) -> Iterator[pa.RecordBatch]:
    """Gathers documents into batches of some 8 MiB of text, or 4096 rows."""
    waiting: list[Document] = []
    size = 0
    for document in documents:
        waiting.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES or len(waiting) >= BATCH_ROWS:
            yield to_batch(waiting)
            waiting, size = [], 0
    if waiting:
        yield to_batch(waiting)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Writes a table atomically; the same rows give the same bytes, however they were chunked."""
    with atomic_file(path) as file:
        # no dictionaries and bounds of texts: they cost time and hardly ever repeat or are searched
        pq.write_table(
            table.combine_chunks(), file, compression="zstd", row_group_size=BATCH_ROWS, use_dictionary=["source"], write_statistics=False,
        )


def read_parquet(paths: Iterable[Path], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of some shards of ours, in order, in batches of bounded memory."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = rows_at_once(file.metadata.row_group(group))
                yield from file.iter_batches(rows, row_groups=[group], columns=list(columns) if columns else None, use_threads=False)


def rows_at_once(group: pq.RowGroupMetaData) -> int:
    """How many rows of a group of Parquet's make a batch: as many as are some 8 MiB in the mean, and at most 4096."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {name: _cleaned(child) for name, child in value.items()}
    return [_cleaned(child) for child in value] if isinstance(value, list | tuple) else value
