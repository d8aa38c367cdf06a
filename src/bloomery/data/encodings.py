"""Encodings: how documents become the token sequences that a shard holds. Each is a value, handed to the Tokenize stage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.data.shards import Encoded
from bloomery.text.chat import ChatTemplate, check_messages
from bloomery.text.instructions.preferences import preference_of
from bloomery.text.tokenizer import Tokenizer


class Encoding(Config):
    """How a batch of documents becomes sequences."""

    masked: ClassVar[bool] = False
    """Whether its sequences bring a loss mask."""
    column: ClassVar[str] = "text"
    """The column of documents that it reads, besides `id`; documents without it are left out."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Further columns that it reads."""
    whole: ClassVar[bool] = False
    """Whether a part of a document is of no use, so that packings that cut are refused."""
    kept: ClassVar[tuple[str, ...]] = ()
    """What shards keep of each sequence beside the usual: names of `Encoded`'s."""

    @property
    def labels_for(self) -> str | None:
        """The head that its sequences bring labels for; None where they bring none."""
        return None

    @property
    def passed_over(self) -> str:
        """What is so of documents that are left out: "have no text"."""
        return f"have no {self.column}"

    @property
    def longest(self) -> int | None:
        """Tokens of the longest document that it makes; None where it sets no limit."""
        return None

    def told(self, label: float) -> str:
        """What a label means, for people."""
        return f"{label:g}"

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        """The sequences of those documents that have what the encoding needs, in order.

        Args:
            documents: with the columns `id` and the encoding's own.
            tokenizer: whose vocabulary the ids are of.

        Raises:
            DataError: a document cannot be encoded; the message names it.
        """
        raise NotImplementedError


class Plain(Encoding):
    """Each document as `<|begin|>` text `<|end|>`; all of it is learnt."""

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        sequences = tokenizer.encode_documents(documents.column("text").to_pylist())
        for name, ids in zip(documents.column("id").to_pylist(), sequences, strict=True):
            tokens = np.array(ids, np.int64)
            yield Encoded(name, tokens, int(tokenizer.byte_lengths[tokens].sum()))


class Learn(Config):
    """Which tokens of a conversation are learnt. Of a turn that is, all of what is said and the `<|end|>` that closes it are."""

    def turns(self, roles: Sequence[str], marks: Sequence[bool | None]) -> list[bool]:
        """For each message whether it is learnt.

        Args:
            roles: of the messages.
            marks: what the data says of each ("learn" in `meta`); None where it says nothing.
        """
        raise NotImplementedError


class AssistantTurns(Learn):
    """All that the assistant says."""

    def turns(self, roles: Sequence[str], marks: Sequence[bool | None]) -> list[bool]:
        return [role == "assistant" for role in roles]


class LastTurn(Learn):
    """The assistant's last turn; those before it are read only."""

    def turns(self, roles: Sequence[str], marks: Sequence[bool | None]) -> list[bool]:
        last = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
        return [i == last for i in range(len(roles))]


class EveryTurn(Learn):
    """What anybody says, so that a model learns to ask as well."""

    def turns(self, roles: Sequence[str], marks: Sequence[bool | None]) -> list[bool]:
        return [True] * len(roles)


class MarkedTurns(Learn):
    """The turns that the data marks as to be learnt; where it marks none of a conversation, all that the assistant says."""

    def turns(self, roles: Sequence[str], marks: Sequence[bool | None]) -> list[bool]:
        if all(mark is None for mark in marks):
            return AssistantTurns().turns(roles, marks)
        return [bool(mark) for mark in marks]


class Chat(Encoding):
    """Conversations through a chat template; by default what the assistant says, and the `<|end|>` of its turns, is learnt.

    Of a preference the prompt and the best completion are taken, unless that was not wanted. Documents without messages are left out; the
    stage counts them.
    """

    masked: ClassVar[bool] = True
    column: ClassVar[str] = "messages"
    beside: ClassVar[tuple[str, ...]] = ("meta",)

    template: ChatTemplate = ChatTemplate()
    """How messages are laid out."""
    learn: Learn = AssistantTurns()
    """What is learnt: `AssistantTurns()`, `LastTurn()`, `EveryTurn()` or `MarkedTurns()`."""

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        talks = []
        for name, messages, meta in talks_of(documents):
            if (preference := preference_of(messages, meta)) is not None:
                best = preference.completions[0]
                if best.good is not False:
                    talks.append((name, [*preference.prompt, *best.messages], [None] * (len(preference.prompt) + len(best.messages))))
            else:
                marks = json.loads(meta).get("learn") if meta is not None and '"learn"' in meta else None
                talks.append((name, messages, marks if isinstance(marks, list) else [None] * len(messages)))
        learnt = [self.learn.turns([message["role"] for message in messages], marks) for _, messages, marks in talks]
        yield from encoded_talks(self.template, tokenizer, [(name, messages) for name, messages, _ in talks], learnt)


class Ranked(Encoding):
    """Preferences: a sequence for each completion, prompt included, the best one first; the completion is learnt.

    The sequences of a document follow each other, and their ids end in what the completion is worth: "…@1", "…@2" by rank, "…@good",
    "…@bad" by verdict, "…@?" where neither is known. Documents without a preference are left out.
    """

    masked: ClassVar[bool] = True
    column: ClassVar[str] = "messages"
    beside: ClassVar[tuple[str, ...]] = ("meta",)

    template: ChatTemplate = ChatTemplate()
    """How messages are laid out."""

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        talks, learnt = [], []
        for name, messages, meta in talks_of(documents):
            if (preference := preference_of(messages, meta)) is not None:
                for completion in preference.completions:
                    verdict = "?" if completion.good is None else "good" if completion.good else "bad"
                    worth = verdict if completion.rank is None else str(completion.rank)
                    talks.append((f"{name}@{worth}", [*preference.prompt, *completion.messages]))
                    answers = [message["role"] == "assistant" for message in completion.messages]
                    learnt.append([False] * len(preference.prompt) + answers)
        yield from encoded_talks(self.template, tokenizer, talks, learnt)


def talks_of(documents: pa.RecordBatch) -> list[tuple[str, list[dict[str, str]], str | None]]:
    """Id, messages and meta of the documents that have messages."""
    meta = documents.column("meta").to_pylist() if "meta" in documents.schema.names else [None] * documents.num_rows
    columns = (documents.column("id").to_pylist(), documents.column("messages").to_pylist(), meta)
    return [row for row in zip(*columns, strict=True) if row[1] is not None]


def encoded_talks(
    template: ChatTemplate, tokenizer: Tokenizer, talks: list[tuple[str, list[dict[str, str]]]], learnt: list[list[bool]],
) -> Iterator[Encoded]:
    """Conversations by name as sequences, with the masks of the turns that are learnt."""
    for name, messages in talks:
        try:
            check_messages(messages)
        except DataError as error:
            raise DataError(f"document {name!r}: {error}") from None
    rendered = template.render_batch([messages for _, messages in talks], tokenizer)
    openings = [tokenizer.system, tokenizer.user, tokenizer.assistant]
    for (name, messages), turns, (ids, _) in zip(talks, learnt, rendered, strict=True):
        tokens = np.array(ids, np.int64)
        starts = np.flatnonzero(np.isin(tokens, openings))  # contents cannot forge them
        if len(turns) != len(messages):
            raise DataError(f"document {name!r} has {len(turns)} marks for {len(messages)} messages; mark each of them in meta.learn")
        mask = np.zeros(len(tokens), np.uint8)
        mask[starts[0] :] = np.repeat(np.array(turns, np.uint8), np.diff(starts, append=len(tokens)))
        mask[starts] = 0
        yield Encoded(name, tokens, int(tokenizer.byte_lengths[tokens].sum()), mask)
