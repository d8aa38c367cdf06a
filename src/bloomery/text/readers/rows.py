"""Rows of JSONL or Parquet as documents: a text column, or a conversation in one of the usual forms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.errors import DataError
from bloomery.text.chat import check_messages
from bloomery.text.documents import Document, conversation

CONVERSATION_FORMS = (("messages",), ("prompt", "completion"), ("instruction", "output"))
"""The columns that make a conversation, where the text column is absent; "input" may accompany an instruction (Alpaca)."""


def to_document(row: Any, id: str, source: str, text_column: str, meta_columns: Sequence[str]) -> Document:
    """One row as a document or a conversation.

    Args:
        row: a mapping of columns to values.
        id: the document's id, which errors name too.
        source: the file it is from.
        text_column: looked for first; a list of messages there is a conversation.
        meta_columns: kept as JSON.

    Raises:
        DataError: no column to read, or one of the wrong type.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{id} is {type(row).__name__}, not an object with columns; write one object per row, like {{{text_column!r}: …}}")
    meta = json.dumps({name: row.get(name) for name in meta_columns}, ensure_ascii=False, default=str) if meta_columns else None
    value = row.get(text_column)
    if isinstance(value, str):
        return Document(id, value, source, None, meta)
    if value is None and text_column in row:
        return Document(id, "", source, None, meta)
    messages = value if isinstance(value, list) else _messages(row) if value is None else None
    if messages is None:
        if value is not None:
            raise DataError(f"{id}: column {text_column!r} holds {type(value).__name__}, not text; name another with Files(text_column=…)")
        known = ", ".join(map(repr, row)) or "none"
        raise DataError(f"{id} has no column {text_column!r}; it has {known}; choose one with Files(text_column=…)")
    try:
        if not isinstance(messages, list):
            raise DataError(f"messages={messages!r} is not a list; give [{{'role': …, 'content': …}}, …]")
        check_messages(messages)
    except DataError as error:
        raise DataError(f"{id}: {error}") from None
    return conversation(id, source, messages, meta)


def _messages(row: Mapping[str, Any]) -> Any:
    if isinstance(row.get("messages"), str):
        try:
            return json.loads(row["messages"])
        except ValueError:
            return None
    if row.get("messages") is not None:
        return row["messages"]
    if "prompt" in row and "completion" in row:
        return [*_turns("user", row["prompt"]), *_turns("assistant", row["completion"])]
    if "instruction" in row and "output" in row:
        asked = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
        return [*_turns("user", asked), *_turns("assistant", row["output"])]
    return None


def _turns(role: str, value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else [{"role": role, "content": value}]
