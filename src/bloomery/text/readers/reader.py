"""`Reader`: a source of documents, as a value."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bloomery.core.config import Config
from bloomery.text.documents import Document, in_batches


@dataclass(frozen=True)
class Damage:
    """Something in a source that could not be read.

    Attributes:
        id: where it is, as a document there would be called.
        reason: what is wrong.
        bytes: how much was lost, as far as is known.
    """

    id: str
    reason: str
    bytes: int = 0


OnDamage = Callable[[Damage], object]


def warn(damage: Damage) -> None:
    """For those who only look: a warning for each piece of damage."""
    warnings.warn(f"{damage.id}: {damage.reason}", stacklevel=3)


def gathered(found: Iterable[Document | Damage], on_damage: OnDamage) -> Iterator[pa.RecordBatch]:
    """Batches of the documents in a stream. Damage is told of when all the documents before it have been given, and none behind it."""
    stream = iter(found)
    damage: list[Damage] = []

    def until_damage() -> Iterator[Document]:
        for item in stream:
            if isinstance(item, Damage):
                damage.append(item)
                return
            yield item

    while True:
        yield from in_batches(until_damage())
        if not damage:
            return
        on_damage(damage.pop())


class Reader(Config):
    """A source of documents. Its identity says what is in the source, not where it lies."""

    def batches(self, after: str | None = None, on_damage: OnDamage = warn) -> Iterator[pa.RecordBatch]:
        """Streams the documents in an order that never changes, as batches of the schema `DOCUMENTS` with bounded memory.

        Args:
            after: the id of the last document that is already had; reading goes on behind it.
            on_damage: told, before the documents behind it come, of everything that could not be read and was passed over.

        Raises:
            DataError: the source is missing, empty, or not what it claims to be.
        """
        raise NotImplementedError

    def total_bytes(self) -> int | None:
        """About how many bytes there are to read, for progress; None where nobody knows."""
        return None

    def resolved(self, folder_of: Callable[[Any], Path]) -> Reader:
        """Who reads: itself, or where the documents are what another stage has left, a reader of its artifact.

        Args:
            folder_of: finds the folder of the artifact that a stage among the fields has made.
        """
        return self
