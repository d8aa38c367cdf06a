"""Rows of JSONL or Parquet as documents: a text column, or a conversation in one of the usual forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.text.chat import check_messages
from bloomery.text.documents import Document, conversation
from bloomery.text.instructions.forms import MESSAGES, OUTPUT, PROMPT, Conversation, Row, read_row
from bloomery.text.instructions.preferences import preference_of
from bloomery.text.readers.reader import Damage, OnDamage

COUNT = "; or count such rows and read on, with Files(rows=Rows(on_bad_row='count'))"


class Rows(Config):
    """How rows become documents.

    Example:
        >>> Files(path="mbpp.jsonl", rows=Rows(columns={"instruction": "text", "output": "code"}))
        >>> Files(path="questions.jsonl", rows=Rows(form="prompt"), …)
    """

    form: Literal["auto", "text", "conversation", "prompt", "columns"] = "auto"
    """"auto": the text column where there is one, else a conversation; "text" and "conversation": that alone; "prompt": the user's words
    alone, for sampling answers to; "columns": all columns as they are, in `meta`, for encodings of labelled rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """What columns mean: a usual name (instruction, input, output, system, messages, chosen, rejected, label …) and the column that holds it.
    With any of them, rows are conversations."""
    on_bad_row: Literal["stop", "count"] = "stop"
    """"stop": a row that cannot be read is an error that names it. "count": it is left out, and counted as damage with its id and reason."""

    def text(self) -> bool:
        """Whether the text column is looked at first."""
        return self.form in ("auto", "text") and not self.columns

    def columns_of(self, names: Sequence[str], text_column: str, meta_columns: Sequence[str]) -> list[str]:
        """Which columns of a table have to be read: those of the text where it is looked at, else all."""
        return [n for n in names if n == text_column or n in meta_columns] if self.text() and text_column in names else list(names)


def rows_of(whole_file: Any) -> list[Any]:
    """The rows of a JSON file: its list, the one list of objects among its fields ({"canary": …, "examples": […]}), or itself as one row."""
    if isinstance(whole_file, list):
        return whole_file
    if isinstance(whole_file, Mapping):
        lists = [value for value in whole_file.values() if isinstance(value, list) and value and isinstance(value[0], Mapping)]
        if len(lists) == 1 and not any(isinstance(value, Mapping | list) for value in whole_file.values() if value is not lists[0]):
            held = Row(whole_file)
            if held.name((*MESSAGES, *PROMPT, *OUTPUT)) is None:
                return lists[0]
    return [whole_file]


def to_documents(
    numbered: Iterable[tuple[Any, str]], source: str, text_column: str, meta_columns: Sequence[str], rows: Rows, on_damage: OnDamage
) -> Iterator[Document]:
    """Rows with their ids as documents; bad ones as `rows` wants it. Otherwise as `to_document`."""
    for row, id in numbered:
        try:
            yield to_document(row, id, source, text_column, meta_columns, rows)
        except DataError as error:
            if rows.on_bad_row == "stop":
                raise
            on_damage(Damage(id, str(error).removeprefix(id).lstrip(": ").removesuffix(COUNT)))


def to_document(row: Any, id: str, source: str, text_column: str, meta_columns: Sequence[str], rows: Rows | None = None) -> Document:
    """One row as a document or a conversation.

    A conversation's `meta` has its form, and what it is made of: see `read_row`; the meta columns stand beside that.

    Args:
        row: a mapping of columns to values, or a text by itself.
        id: the document's id, which errors name too.
        source: the file it is from.
        text_column: looked for first; a list of messages there is a conversation.
        meta_columns: kept as JSON.
        rows: what columns mean; None is `Rows()`.

    Raises:
        DataError: no column to read, or one of the wrong type.
    """
    rows = Rows() if rows is None else rows
    if rows.form == "columns" and isinstance(row, Mapping):
        return Document(id, "\n\n".join(value for value in row.values() if isinstance(value, str)), source, None, _json(dict(row)))
    if isinstance(row, str) and rows.text():
        return Document(id, row, source)
    if not isinstance(row, Mapping):
        raise DataError(f"{id} is {type(row).__name__}, not an object with columns; write one object per row, like {{{text_column!r}: …}}")
    chosen = {name: row.get(name) for name in meta_columns}
    value = row.get(text_column) if rows.text() else None
    if isinstance(value, str) or (value is None and rows.text() and text_column in row):
        return Document(id, value or "", source, None, _json(chosen))
    if value is not None and not isinstance(value, list):
        raise DataError(f"{id}: column {text_column!r} holds {type(value).__name__}, not text; name another with Files(text_column=…)")
    try:
        read = _conversation({"messages": value} if value is not None else row, rows)
        if read is None:
            known = ", ".join(map(repr, row)) or "none"
            raise DataError(f"no column {text_column!r}; it has {known}; choose one with Files(text_column=…), "
                            "or say what they mean with Rows(columns={'instruction': …, 'output': …})")  # fmt: skip
        meta = _json(read.meta | chosen)
        preference = preference_of(read.messages, meta)
        for messages in [read.messages] if preference is None else [[*preference.prompt, *c.messages] for c in preference.completions]:
            check_messages(messages)
    except DataError as error:
        remedy = "" if "Rows(" in str(error) else COUNT
        raise DataError((f"{id} has {error}" if str(error).startswith("no column") else f"{id}: {error}") + remedy) from None
    return conversation(id, source, read.messages, meta)


def _conversation(row: Mapping[str, Any], rows: Rows) -> Conversation | None:
    if rows.form == "text":
        return None
    if missing := [column for column in rows.columns.values() if column not in row]:
        raise DataError(f"no column {missing[0]!r}, which Rows.columns names; it has {', '.join(map(repr, row)) or 'none'}")
    named = {name: row[column] for name, column in rows.columns.items()}
    others = {name: value for name, value in row.items() if name not in rows.columns.values()}
    return read_row(others | named, prompt_only=rows.form == "prompt")


def _json(plain: dict[str, Any]) -> str | None:
    return json.dumps(plain, ensure_ascii=False, default=str) if plain else None
