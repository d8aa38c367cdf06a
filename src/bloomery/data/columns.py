"""Encodings of rows whose columns come in their documents' `meta`, as `Files(rows=Rows(form="columns"))` leaves them."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa

from bloomery.core.errors import DataError, did_you_mean
from bloomery.data.encodings import Encoding
from bloomery.data.folds import Fold
from bloomery.data.shards import Encoded
from bloomery.text.tokenizer import Tokenizer


class FromColumns(Encoding):
    """Rows by their columns; subclasses write `encoded`, and `read`, which tells rows apart. What is learnt of a row is of the whole of it."""

    masked: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    column: ClassVar[str] = "meta"

    folds: tuple[Fold, ...] = ()
    """Rows that all of these keep; none keeps every row."""

    @property
    def passed_over(self) -> str:
        return super().passed_over + (" or are of other folds" if self.folds else "")

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        for name, meta in zip(documents.column("id").to_pylist(), documents.column("meta").to_pylist(), strict=True):
            if meta is None:
                continue
            try:
                row = json.loads(meta)
                if self.keeps(row):
                    yield self.encoded(name, row, tokenizer)
            except DataError as error:
                raise DataError(f"document {name!r}: {error}") from None

    @property
    @abstractmethod
    def read(self) -> tuple[str, ...]:
        """The columns by which one row is another one; of a question with choices, the question."""

    @abstractmethod
    def encoded(self, name: str, row: Mapping[str, Any], tokenizer: Tokenizer) -> Encoded:
        """One row.

        Args:
            name: the document's id.
            row: its columns.
            tokenizer: whose ids are wanted.

        Raises:
            DataError: a column is missing, or holds what cannot be.
        """

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is on the side of all folds; raises `DataError` where it lacks a column."""
        if not self.folds:
            return True
        read = map(partial(value_in, row), self.read)
        content = "\n".join(" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in read)
        return all(fold.keeps(content) for fold in self.folds)


def value_in(row: Mapping[str, Any], column: str) -> Any:
    """What a column holds; None where it holds nothing. Raises `DataError` where there is no such column."""
    if column not in row:
        remedy = did_you_mean(column, row, f"it has {', '.join(map(repr, row)) or 'none'}")
        raise DataError(f"no column {column!r}; {remedy}")
    return None if row[column] == "" else row[column]


def text_in(row: Mapping[str, Any], column: str) -> str:
    """The text in a column; raises `DataError` where there is none."""
    value = value_in(row, column)
    if value is not None and not isinstance(value, str | int | float):
        raise DataError(f"column {column!r} holds {type(value).__name__}, not text; name another")
    return "" if value is None else str(value)


def number_in(row: Mapping[str, Any], column: str) -> float | None:
    """The number in a column; None where it holds nothing. Raises `DataError` where it holds something else."""
    value = value_in(row, column)
    try:
        number = None if value is None else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise DataError(f"column {column!r} holds {value!r}, which is no number; mend or drop the row")
    return number


def listed(value: Any) -> list[Any]:
    """A list, or a text parted at its blanks."""
    return value.split() if isinstance(value, str) else list(value or ())
