"""`Histogram`: how a measure is spread, such that the effect of any threshold of a list can be read off without the documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bloomery.stages.record.record import Record
from bloomery.stages.record.what_if import Bounds, filter_of, measured, measures

EDGES = 100  # thresholds to choose from, about
SAMPLE = 100_000  # values looked at to choose them


@dataclass(kw_only=True)
class Histogram:
    """Counts of the documents that pass all other measures of the filter, so that this one alone decides on them.

    A document passes `low` and `high` if low <= value <= high: that makes `upto[high] - below[low] + unmeasured` of them, exactly.

    Attributes:
        measure: "Gopher.words".
        bounds: as they are.
        edges: float32, thresholds to choose from, ascending; those in use are among them.
        reached: all documents that came to the filter.
        below: for each edge, the documents with a smaller value.
        upto: for each edge, the documents with a value no greater.
        total: documents with a value.
        unmeasured: documents without one.
    """

    measure: str
    bounds: Bounds
    edges: np.ndarray
    reached: int
    below: np.ndarray = field(init=False)
    upto: np.ndarray = field(init=False)
    total: int = 0
    unmeasured: int = 0

    def __post_init__(self) -> None:
        self.below, self.upto = np.zeros(len(self.edges), np.int64), np.zeros(len(self.edges), np.int64)

    def add(self, values: np.ndarray) -> None:
        """Counts more documents; NaN is no value."""
        there = np.sort(values[~np.isnan(values)])
        self.below += np.searchsorted(there, self.edges, "left")
        self.upto += np.searchsorted(there, self.edges, "right")
        self.total += len(there)
        self.unmeasured += len(values) - len(there)

    def bars(self) -> list[int]:
        """Documents below the first edge, between each two, and from the last one on."""
        return np.diff(np.concatenate([[0], self.below, [self.total]])).tolist()

    def chosen(self) -> list[int]:
        """The bounds as places on the sliders: how many bars the least leaves out, and the last bar that the most takes in."""
        low, high = (None if bound is None else int(np.searchsorted(self.edges, np.float32(bound))) for bound in self.bounds)
        return [0 if low is None else low + 1, len(self.edges) if high is None else high]

    def takes(self) -> bool:
        """Whether the bounds in use break for any document that the filter's other measures let pass."""
        low, high = self.chosen()
        n = len(self.edges)
        return bool((low and self.below[low - 1]) or (high < n and self.upto[high] < self.total))

    def plain(self) -> dict[str, Any]:
        """For the page's script."""
        return {
            "edges": [float(f"{edge:.6g}") for edge in self.edges.tolist()], "below": self.below.tolist(), "upto": self.upto.tolist(),
            "total": self.total, "unmeasured": self.unmeasured, "reached": self.reached, "chosen": self.chosen(),
        }  # fmt: skip


def histograms(record: Record) -> list[Histogram]:
    """One for each measure of which there are values, in the order of the filters. What was measured is read twice, a part at a time."""
    return [found for filter in dict.fromkeys(map(filter_of, measures(record))) for found in _of_filter(record, filter)]


def _of_filter(record: Record, filter: str) -> list[Histogram]:
    reached = record.funnel[record.order[filter]].documents_in
    step = max(1, reached // SAMPLE)
    some: dict[str, list[np.ndarray]] = {}
    for part in measured(record, filter):
        for name, values in part.values.items():
            some.setdefault(name, []).append(values[::step])
    found: dict[str, Histogram] = {}
    for name, values in some.items():
        bounds = record.bounds.get(name, (None, None))
        edges = choose_edges(np.concatenate(values), [bound for bound in bounds if bound is not None])
        if len(edges):
            found[name] = Histogram(measure=name, bounds=bounds, edges=edges, reached=reached)
    for part in measured(record, filter):
        free = part.free(record.bounds)
        for name, histogram in found.items():
            if name in part.values:
                histogram.add(part.values[name][free[name]])
    return list(found.values())


def choose_edges(values: np.ndarray, used: list[float]) -> np.ndarray:
    """Some hundred round thresholds across the bulk of the values, evenly spaced or, where a few are far off, by equal factors.

    Args:
        values: of which the edges are to cover all but half a percent at either end.
        used: thresholds that must be among them.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return np.empty(0, np.float32)
    low, middle, high = np.quantile(values, (0.005, 0.5, 0.995)).tolist()
    low, high = min([low, *used]), max([high, *used])
    distinct = np.unique(values)
    if len(distinct) <= EDGES:
        chosen = distinct
    elif low >= 0 and high > 20 * middle > 0:
        chosen = np.geomspace(max(low, middle / 1000), high, EDGES)
    else:
        chosen = np.linspace(low, high, EDGES)
    digits = 3 if len(distinct) > EDGES else 6
    return np.unique(np.array([*(float(f"{edge:.{digits}g}") for edge in chosen.tolist()), *used], np.float32))
