"""`Length`: bounds on how long a document is."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Measure, Verdicts


class Length(Filter):
    """Drops documents that are too short or too long, in characters without the white space around them."""

    min_chars: int = 1
    """The least that stays; 1 drops the empty ones."""
    max_chars: int | None = None
    """The most that stays; None is no limit."""

    def check(self) -> None:
        if self.min_chars < 0:
            raise self.refuse("min_chars", "is negative; 0 keeps everything")
        if self.max_chars is not None and self.max_chars < self.min_chars:
            raise self.refuse("max_chars", f"is below min_chars={self.min_chars}, so nothing would stay; raise it")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        chars = pc.utf8_length(pc.utf8_trim_whitespace(batch.column("text"))).cast(pa.float64())
        return Verdicts.by_measures(batch, [Measure(name="chars", values=chars, low=self.min_chars, high=self.max_chars)])
