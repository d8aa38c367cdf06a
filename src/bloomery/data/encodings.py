"""Encodings: how documents become the token sequences that a shard holds. Each is a value, handed to the Tokenize stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.data.shards import Encoded
from bloomery.text.chat import ChatTemplate, check_messages
from bloomery.text.tokenizer import Tokenizer


class Encoding(Config):
    """How a batch of documents becomes sequences."""

    masked: ClassVar[bool] = False
    """Whether its sequences bring a loss mask."""
    column: ClassVar[str] = "text"
    """The column of documents that it reads, besides `id`."""

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


class Chat(Encoding):
    """Conversations through a chat template; only what the assistant says, and the `<|end|>` of its turns, is learnt.

    Documents without messages are left out; the stage counts them.
    """

    masked: ClassVar[bool] = True
    column: ClassVar[str] = "messages"

    template: ChatTemplate = ChatTemplate()
    """How messages are laid out."""

    def encode(self, documents: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[Encoded]:
        columns = (documents.column("id").to_pylist(), documents.column("messages").to_pylist())
        conversations = [(name, messages) for name, messages in zip(*columns, strict=True) if messages is not None]
        for name, messages in conversations:
            try:
                check_messages(messages)
            except DataError as error:
                raise DataError(f"document {name!r}: {error}") from None
        rendered = self.template.render_batch([messages for _, messages in conversations], tokenizer)
        for (name, _), (ids, mask) in zip(conversations, rendered, strict=True):
            tokens = np.array(ids, np.int64)
            yield Encoded(name, tokens, int(tokenizer.byte_lengths[tokens].sum()), np.array(mask, np.uint8))
