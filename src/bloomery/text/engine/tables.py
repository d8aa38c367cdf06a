"""The files between two passes: Arrow tables, written whole or not at all, read batch by batch and column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from bloomery.store.files import atomic_file


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Writes batches atomically, compressed lightly: they are read once or twice and then removed."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with atomic_file(path) as file, pa.ipc.new_file(file, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table atomically."""
    write_arrow(path, table.schema, table.to_batches())


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The batches of a file, with all columns or those named."""
    with pa.OSFile(str(path)) as file:
        options = pa.ipc.IpcReadOptions()
        if columns is not None:
            names = pa.ipc.open_file(file).schema.names
            options = pa.ipc.IpcReadOptions(included_fields=[names.index(column) for column in columns])
        reader = pa.ipc.open_file(file, options=options)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole file."""
    with pa.OSFile(str(path)) as file:
        schema = pa.ipc.open_file(file).schema
    if columns is not None:
        schema = pa.schema([field for field in schema if field.name in columns])
    return pa.Table.from_batches(list(read_arrow(path, columns)), schema)
