"""Texts in tokens, as several tokenizers see them; and the very rows that a step of a training has read."""

from __future__ import annotations

from typing import Any

from bloomery.core.errors import DataError
from bloomery.stages.trace import documents_of_step, train_source
from bloomery.store import Artifact, Store
from bloomery.text.chat import ChatTemplate, check_messages
from bloomery.text.tokenizer import Tokenizer

LONGEST = 20_000  # characters of a text
ROWS = 8  # of a step


def tokenizers_of(store: Store) -> list[Artifact]:
    """What has learnt or read a tokenizer here, the newest first."""
    return [one for one in reversed(store.artifacts()) if "tokenizer.json" in one.manifest.files and one.manifest.stage.endswith("Tokenizer")]


def loaded(artifact: Artifact) -> Tokenizer:
    """The tokenizer of an artifact: its own, or that of the model in it."""
    names = [name for name in ("tokenizer/tokenizer.json", "tokenizer.json") if name in artifact.manifest.files]
    if not names:
        raise DataError(f"{artifact.reference} has no tokenizer; give a tokenizer or a training")
    return Tokenizer.load(artifact.file(names[0]))


def text_in_pieces(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """A text as tokens, and how short it becomes."""
    if len(text) > LONGEST:
        raise DataError(f"the text has {len(text)} characters, and {LONGEST} are shown at most; take a part of it")
    ids = tokenizer.encode(text)
    size = len(text.encode("utf-8", "replace"))
    return {"pieces": pieces_of(tokenizer, ids), "tokens": len(ids), "characters": len(text), "bytes": size, "vocab_size": tokenizer.vocab_size}


def talk_in_pieces(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> dict[str, Any]:
    """A conversation as it is learnt: which tokens are supervised, and which are control tokens."""
    check_messages(messages)
    if sum(len(message["content"]) for message in messages) > LONGEST:
        raise DataError(f"the conversation has more than {LONGEST} characters; take a part of it")
    rendered = ChatTemplate().render(messages, tokenizer)
    return {"pieces": pieces_of(tokenizer, rendered.ids, rendered.mask), "tokens": len(rendered.ids), "learnt": sum(rendered.mask)}


def pieces_of(tokenizer: Tokenizer, ids: list[int], learnt: list[bool] | None = None) -> list[dict[str, Any]]:
    """Each token: its id, its text (bytes that are part of a character as \\xNN), whether it is a control token and whether it is learnt."""
    table, controls = tokenizer.token_bytes, tokenizer.controls
    return [
        {
            "id": i, "text": controls[i] if i in controls else table[i].decode(errors="backslashreplace") if i < len(table) else "\ufffd",
            **({"control": True} if i in controls else {}), **({} if learnt is None or learnt[place] else {"unlearnt": True}),
        }
        for place, i in enumerate(ids)
    ]  # fmt: skip


def rows_of_step(artifact: Artifact, step: int, rows: int = ROWS) -> dict[str, Any]:
    """The first rows of a step's batch: of each document in them its name, where it lies in the row, and its tokens there.

    Raises:
        ArtifactError: it is no training, or what it read is gone.
        ConfigError: it had no such step.
    """
    source, tokenizer = train_source(artifact), loaded(artifact)
    spans = documents_of_step(artifact, step)
    first = spans[0].row
    tokens = source.rows(first, rows).tokens
    shown = [
        {
            "row": span.row - first, "start": span.start, "stop": span.stop, "source": span.source, "id": span.id,
            "pieces": pieces_of(tokenizer, tokens[span.row - first, span.place : span.place + span.stop - span.start].tolist()),
        }
        for span in spans if span.row - first < rows
    ]  # fmt: skip
    return {"step": step, "rows": spans[-1].row - first + 1, "documents": len({span.id for span in spans}), "spans": shown}
