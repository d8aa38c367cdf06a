"""`Only`: filters for the documents of some languages or kinds, the others passing by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.chain import names_of
from bloomery.text.filters.filter import SPANS, Filter, GlobalFilter, Measure, Operator, Verdicts
from bloomery.text.filters.meta import read_meta


class Only(Filter):
    """Applies filters, one after the other, to the documents whose `meta` says one of these languages; the others are kept as they are.

    A document that one of the filters drops goes with that filter's reason, value and threshold; one that several rewrite has all reasons.

    Example:
        >>> str(Only(language=("de", "nl"), filters=()).language)
        "('de', 'nl')"
    """

    language: tuple[str, ...]
    """The codes that `Language` writes into `meta`, e.g. ("de",); it must come before."""
    filters: tuple[Filter, ...]
    """What is applied to them."""

    def check(self) -> None:
        if not self.language:
            raise self.refuse("language", "names no language, so nothing would be filtered; name one, or list the filters without Only")
        for filter in self.filters:
            if isinstance(filter, GlobalFilter):
                raise self.refuse("filters", f"has {filter.kind()}, which judges documents beside all others; put it beside Only, not inside")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return _Router(self.language, tuple(zip(names_of(self.filters), self.filters, strict=True)))(batch)

    def open(self, folder_of: Callable[[Any], Path]) -> Operator:
        return _Router(self.language, tuple(zip(names_of(self.filters), (f.open(folder_of) for f in self.filters), strict=True)))


@dataclass(frozen=True)
class _Router:
    language: tuple[str, ...]
    operators: tuple[tuple[str, Operator], ...]

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        wanted = np.array([language in self.language for language in read_meta(batch, "language")], bool)
        verdicts = Verdicts.keep(batch)
        left = np.flatnonzero(wanted)
        for name, operator in self.operators:
            said = operator(verdicts.batch.take(pa.array(left)))
            verdicts = _merged(verdicts, said, left, name)
            left = left[~said.dropped.to_numpy(zero_copy_only=False)]
        return verdicts


def _merged(all: Verdicts, said: Verdicts, rows: np.ndarray, name: str) -> Verdicts:
    """What is known of all rows after a filter has spoken of some of them."""
    n, of = all.batch.num_rows, len(rows)
    place = np.full(n, -1)
    place[rows] = np.arange(of)
    to = pa.array(place, mask=place < 0)
    touched = pc.is_valid(said.reasons.take(to))
    newer = pc.if_else(touched, pc.add(to, n), pa.array(np.arange(n)))  # the row in old and new together

    def updated(old: pa.Array, new: pa.Array) -> pa.Array:
        return pa.concat_arrays([old, new]).take(newer)

    dropped = pc.fill_null(said.dropped.take(to), False)
    again = pc.and_(pc.and_(touched, pc.is_valid(all.reasons)), pc.invert(dropped))
    reasons = pc.if_else(again, pc.binary_join_element_wise(all.reasons, said.reasons.take(to), "; "), updated(all.reasons, said.reasons))
    measures = [Measure(name=f"{name}_{m.name}", values=m.values.take(to), low=m.low, high=m.high) for m in said.measures]
    return Verdicts(
        batch=pa.RecordBatch.from_arrays([updated(a, b) for a, b in zip(all.batch, said.batch, strict=True)], schema=all.batch.schema),
        reasons=reasons,
        dropped=pc.or_(all.dropped, dropped),
        values=updated(_numbers(all.values, n), _numbers(said.values, of)),
        threshold=updated(_numbers(all.threshold, n), _numbers(said.threshold, of)),
        spans=updated(_spans(all.spans, n), _spans(said.spans, of)),
        measures=(*all.measures, *measures),
    )


def _numbers(values: pa.Array | float | None, n: int) -> pa.Array:
    return values.cast(pa.float64()) if isinstance(values, pa.Array) else pa.repeat(pa.scalar(values, pa.float64()), n)


def _spans(spans: pa.Array | None, n: int) -> pa.Array:
    return pa.nulls(n, SPANS) if spans is None else spans.cast(SPANS)
