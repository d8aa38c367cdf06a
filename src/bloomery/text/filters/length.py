"""`Length`: bounds on how long a document is."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Verdicts


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
        chars = pc.utf8_length(pc.utf8_trim_whitespace(batch.column("text")))
        short = pc.less(chars, self.min_chars)
        long = pc.greater(chars, self.max_chars if self.max_chars is not None else 1 << 62)
        reasons = pc.case_when(pc.make_struct(short, long), pa.scalar("too short"), pa.scalar("too long"))
        threshold = pc.if_else(long, pa.scalar(self.max_chars, pa.float64()), pa.scalar(float(self.min_chars)))
        return Verdicts(
            batch=batch, reasons=reasons, dropped=pc.or_(short, long), values=chars.cast(pa.float64()), threshold=threshold,
        )
