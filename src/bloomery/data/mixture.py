"""`Mixture`: several sources interleaved row by row in fixed proportions of tokens."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from bloomery.core.errors import ConfigError
from bloomery.data.source import Rows, Source, Span, Supply, Told

FINEST = 1_000_000  # proportions are taken as fractions with denominators up to it
LONGEST_PERIOD = 100_000


Proportions = Mapping[str, float | int]


class Mixture(Source):
    """Sources in proportions of tokens (rows · time), deterministically: after n rows a source of proportion p has given ⌊pn⌋ or ⌈pn⌉.

    Each source keeps its own global order and repeats as needed; `supply` tells how often. The interleaving is periodic, so that row n is
    found without walking through those before it. From given rows on the proportions may be others: there the promise begins anew, and the
    sources go on where they stood.

    Args:
        sources: by name; all with the same `time` and `vocab_size`.
        proportions: by the same names; positive, of any sum. With `changes`, those that are left out or 0 give nothing at first.
        changes: from which row on which other proportions hold, in order.

    Raises:
        ConfigError: the sources do not fit together, or the proportions cannot be.
    """

    def __init__(self, sources: Mapping[str, Source], proportions: Proportions, changes: Sequence[tuple[int, Proportions]] = ()) -> None:
        phases = [(0, proportions), *changes]
        if (starts := [first_row for first_row, _ in phases]) != sorted(set(starts)):
            raise ConfigError(f"Mixture.changes begin at rows {starts[1:]}, which do not ascend from 1; put them in order")
        if not sources or set(sources) != {name for _, mixed in phases for name, p in mixed.items() if p}:
            raise ConfigError(f"Mixture.proportions={dict(proportions)} must name the sources {sorted(sources)}, each once")
        self.sources = dict(sources)
        shapes = {name: (source.time, source.vocab_size) for name, source in sources.items()}
        if len(set(shapes.values())) > 1:
            raise ConfigError(f"Mixture.sources differ in (time, vocab_size): {shapes}; encode them with one tokenizer and one row length")
        self.time, self.vocab_size = next(iter(shapes.values()))
        self.phases: list[Phase] = []
        for first_row, mixed in phases:
            given = self.count(first_row) if self.phases else [0] * len(sources)
            self.phases.append(Phase.of([mixed.get(name, 0) for name in self.sources], first_row, given))

    def count(self, row: int) -> list[int]:
        """How many of the first `row` rows come from each source."""
        return self._phase(row).count(row)

    def rows(self, first_row: int, rows: int) -> Rows:
        parts = [(source.rows(first, len(places)), places) for _, source, first, places in self._shares(first_row, rows)]
        heads = {head for arrays, _ in parts for head in arrays.labels}
        labels = {head: Told(*(np.zeros((rows, self.time), np.float32) for _ in Told._fields)) for head in sorted(heads)}
        tokens, targets, weight, segments = (np.empty((rows, self.time), array.dtype) for array in parts[0][0][:4])
        out = Rows(tokens, targets, weight, segments, labels)
        for arrays, places in parts:
            for target, array in zip(out[:4], arrays[:4], strict=True):
                target[places] = array
            for head, told in arrays.labels.items():
                for target, array in zip(labels[head], told, strict=True):
                    target[places] = array
        return out

    def documents(self, first_row: int, rows: int) -> list[Span]:
        spans = []
        for name, source, first, places in self._shares(first_row, rows):
            found = source.documents(first, len(places))
            spans += [span._replace(row=first_row + int(places[span.row - first]), source=name) for span in found]
        return sorted(spans, key=lambda span: (span.row, span.place))

    def turns(self, first_row: int, rows: int) -> bool:
        return any(first_row <= phase.first_row < first_row + rows for phase in self.phases[1:])

    def supply(self, rows: int) -> list[Supply]:
        return [part for source, count in zip(self.sources.values(), self.count(rows), strict=True) for part in source.supply(count)]

    def plain(self) -> list[tuple[int, dict[str, int]]]:
        """The phases as plain data, from which the same mixture can be built again: first row, and parts by name."""
        return [(phase.first_row, {name: part for name, part in zip(self.sources, phase.parts, strict=True) if part}) for phase in self.phases]

    def _phase(self, row: int) -> Phase:
        """The phase that a row belongs to."""
        return self.phases[bisect_right(self.phases, row, key=lambda phase: phase.first_row) - 1]

    def _shares(self, first_row: int, rows: int) -> list[tuple[str, Source, int, Int64[np.ndarray, " places"]]]:
        """For each source that has some of these rows: its name, itself, its own first row, and the places they take; its rows are a run."""
        end = first_row + rows
        cuts = [first_row, *(phase.first_row for phase in self.phases if first_row < phase.first_row < end), end]
        chosen = np.concatenate([self._phase(row).chosen(row, until - row) for row, until in itertools.pairwise(cuts)])
        before = self.count(first_row)
        shares = [(name, source, before[k], np.flatnonzero(chosen == k)) for k, (name, source) in enumerate(self.sources.items())]
        return [share for share in shares if len(share[3])]


@dataclass(frozen=True, eq=False)
class Phase:
    """Rows from `first_row` on, in fixed proportions.

    Attributes:
        parts: the proportions as whole numbers.
        given: what each source has given before.
        order: (period,) which source each row of a period comes from.
        before: (sources, period + 1) rows of each source among the first j of a period.
    """

    first_row: int
    parts: list[int]
    given: list[int]
    order: Int64[np.ndarray, " period"]
    before: Int64[np.ndarray, "sources period1"]

    @classmethod
    def of(cls, proportions: Sequence[float | int], first_row: int, given: list[int]) -> Phase:
        """The phase of these proportions, of which 0 leaves a source out."""
        some = iter(whole_parts([p for p in proportions if p]))
        parts = [next(some) if p else 0 for p in proportions]
        order = interleave(parts)
        chosen = order == np.arange(len(parts))[:, None]
        return cls(first_row, parts, given, order, np.cumsum(np.pad(chosen, ((0, 0), (1, 0))), axis=1))

    def count(self, row: int) -> list[int]:
        """What each source has given by a row of this phase."""
        periods, rest = divmod(row - self.first_row, len(self.order))
        columns = zip(self.given, self.parts, self.before[:, rest], strict=True)
        return [given + periods * part + int(before) for given, part, before in columns]

    def chosen(self, row: int, rows: int) -> Int64[np.ndarray, " rows"]:
        """Which source each of these rows comes from."""
        return self.order[(row - self.first_row + np.arange(rows)) % len(self.order)]


def whole_parts(proportions: Sequence[float | int]) -> list[int]:
    """Proportions as the smallest whole numbers: (0.7, 0.3) → [7, 3].

    Raises:
        ConfigError: one is not a positive number, or they need a period of more than 100,000 rows.
    """
    if not all(math.isfinite(p) and p > 0 for p in proportions):
        raise ConfigError(f"Mixture.proportions={list(proportions)} must all be positive numbers; leave a source out to give it nothing")
    fractions = [Fraction(p).limit_denominator(FINEST) for p in proportions]
    common = math.lcm(*(f.denominator for f in fractions))
    parts = [int(f * common) for f in fractions]
    parts = [part // math.gcd(*parts) for part in parts]
    if not all(parts) or sum(parts) > LONGEST_PERIOD:
        rule = f"repeat only after more than {LONGEST_PERIOD} rows; round them, as in (0.7, 0.3)"
        raise ConfigError(f"Mixture.proportions={list(proportions)} {rule}")
    return parts


def interleave(parts: Sequence[int]) -> Int64[np.ndarray, " period"]:
    """One period of the interleaving: which source each row comes from.

    The j-th row of a source of proportion p may not come before row ⌊j/p⌋ and is due by row ⌈(j+1)/p⌉; of those that may come, the one due
    first does. Taking the largest deficit alone would let small sources fall more than a row behind when there are many.

    Args:
        parts: whole-number proportions.

    Returns:
        (period,) numbers of sources; the period is the sum of the parts.

    Source: Tijdeman (1980), "The chairman assignment problem", Discrete Mathematics 32, theorem 1; Baruah et al. (1996), Algorithmica 15,
    for the deadlines.
    """
    period, given = sum(parts), [0] * len(parts)
    order = np.empty(period, np.int64)
    for row in range(period):
        due = [(-(-(given[k] + 1) * period // part), k) for k, part in enumerate(parts) if given[k] * period < part * (row + 1)]
        order[row] = chosen = min(due)[1]
        given[chosen] += 1
    return order
