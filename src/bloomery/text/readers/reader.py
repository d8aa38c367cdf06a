"""`Reader`: a source of documents, as a value."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from bloomery.core.config import Config


class Reader(Config):
    """A source of documents. Its identity says what is in the source, not where it lies."""

    def batches(self, after: str | None = None) -> Iterator[pa.RecordBatch]:
        """Streams the documents in an order that never changes, as batches of the schema `DOCUMENTS` with bounded memory.

        Args:
            after: the id of the last document that is already had; reading goes on behind it.

        Raises:
            DataError: the source is missing, empty, or not what it claims to be.
        """
        raise NotImplementedError

    def total_bytes(self) -> int | None:
        """About how many bytes there are to read, for progress; None where nobody knows."""
        return None
