"""`Measure`: a figure of some items, with what is known of its error; and what it differs by between two models that were asked the same.

Every figure here is a function of sums over items, f(Σᵢ xᵢ): an accuracy is Σ right / Σ 1, a perplexity exp(Σ nats / Σ words), BLEU a function
of summed n-grams, the calibration error one of summed bins. So errors of all of them are told in one way: by formula where f is a ratio, else
from sums over items that are drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from bloomery.core.rng import numpy_rng

DRAWS = 1000
Z = 1.959964  # of 95 %
Unit = Literal["%", ""]


@dataclass(frozen=True)
class Estimate:
    """A figure with its error.

    Attributes:
        value: what was measured.
        error: its standard error; NaN of a single item.
        low, high: the interval of 95 %.
        of: items.
        unit: "%" for shares, "" for plain numbers.
    """

    value: float
    error: float
    low: float
    high: float
    of: int
    unit: Unit = ""

    @property
    def sure(self) -> bool:
        """Of a difference: whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        value = self._told(self.value) + ("%" if self.unit == "%" else "")
        return value if math.isnan(self.error) else f"{value} ± {self._told(self.error)}"

    def interval(self) -> str:
        """"… to …", in the same unit."""
        return "" if math.isnan(self.low) else f"{self._told(self.low)} to {self._told(self.high)}{'%' if self.unit == '%' else ''}"

    def _told(self, number: float) -> str:
        """A number as precise as the value is told."""
        if self.unit == "%":
            return f"{100 * number:.1f}"
        size = abs(self.value)
        return f"{number:.4f}" if size < 10 else f"{number:.2f}" if size < 1e5 else f"{number:.3g}"

    def plain(self) -> dict[str, Any]:
        """For JSON; what is not known is null."""
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in vars(self).items()}


def ratio(sums: Float[np.ndarray, "*draws two"]) -> Float[np.ndarray, "*draws"]:
    """Σa / Σb."""
    return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True)
class Measure:
    """A figure f(Σᵢ xᵢ) of items.

    Attributes:
        parts: (items, d), the xᵢ.
        figure: f, of sums on the last axis; `ratio` unless given, whose error is told by formula.
        groups: of each item; items of one group, questions about one passage say, count as drawn together. None: each by itself.
        unit: of the figure.

    Source: Miller (2024), arXiv 2411.00640, for standard errors in groups and of pairs; Wilson (1927) for the interval of a share; Efron (1979)
    for the bootstrap.
    """

    parts: Float[np.ndarray, "items d"]
    figure: Callable[[Any], Any] = ratio
    groups: Sequence[str] | None = None
    unit: Unit = "%"

    @classmethod
    def mean(cls, values: Sequence[float] | np.ndarray, groups: Sequence[str] | None = None, unit: Unit = "%") -> Measure:
        """The mean of some values."""
        numbers = np.asarray(values, np.float64)
        return cls(np.stack([numbers, np.ones_like(numbers)], axis=1), groups=groups, unit=unit)

    @property
    def value(self) -> float:
        """The figure."""
        return float(self.figure(self.parts.sum(0)))

    def estimate(self) -> Estimate:
        """The figure with its standard error

            √(C/(C−1) · Σ over groups of (Σ of their a − θ·b)²) / Σb,   θ = Σa/Σb

        and θ ± 1.96 of it; of a share of single items Wilson's interval, which is not empty at 0 and 1. Of other figures, what drawing the
        groups anew, with replacement, gives in 1,000 draws: the deviation, and the middle 95 %.
        """
        value, of = self.value, len(self.parts)
        if self.figure is not ratio:
            drawn = self.figure(draws(self._grouped()))
            return Estimate(value, *_of_draws(drawn), of, self.unit)
        error = _error(self._residuals())
        if self.groups is None and set(np.unique(self.parts)) <= {0.0, 1.0} and self.unit == "%":
            return Estimate(value, error, *wilson(value, of), of, self.unit)
        return Estimate(value, error, value - Z * error, value + Z * error, of, self.unit)

    def less(self, other: Measure) -> Estimate:
        """This figure less that of another model, or of another wording, that was asked the same items in the same order. Its error is that of
        the differences of pairs, so that what is hard for both does not count: for means

            √(Σᵢ (dᵢ − d)² / (n − 1)) / √n,   dᵢ = xᵢ − yᵢ

        and of other figures that of the difference when both draw the same items.
        """
        value, of = self.value - other.value, len(self.parts)
        if self.figure is not ratio:  # the draws of both are the same, since they go by the number of groups
            drawn = self.figure(draws(self._grouped())) - other.figure(draws(other._grouped()))
            return Estimate(value, *_of_draws(drawn), of, self.unit)
        error = _error(self._residuals() - other._residuals())
        return Estimate(value, error, value - Z * error, value + Z * error, of, self.unit)

    def _grouped(self) -> Float[np.ndarray, "groups d"]:
        if self.groups is None:
            return self.parts
        _, which = np.unique(np.asarray(self.groups), return_inverse=True)
        sums = np.zeros((which.max() + 1, self.parts.shape[1]))
        np.add.at(sums, which, self.parts)
        return sums

    def _residuals(self) -> Float[np.ndarray, " groups"]:
        """How much each group moves the ratio."""
        grouped = self._grouped()
        return (grouped[:, 0] - self.value * grouped[:, 1]) / grouped[:, 1].sum()


def _error(residuals: Float[np.ndarray, " groups"]) -> float:
    count = len(residuals)
    return math.sqrt(count / (count - 1) * float((residuals**2).sum())) if count > 1 else math.nan


def _of_draws(drawn: Float[np.ndarray, " draws"]) -> tuple[float, float, float]:
    """Standard error, and the middle 95 %."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(drawn.std(ddof=1)), float(low), float(high)


def draws(parts: Float[np.ndarray, "n d"], count: int = DRAWS) -> Float[np.ndarray, "draws d"]:
    """Sums over as many items as there are, drawn anew with replacement; the same ones for as many items."""
    n, rng = len(parts), numpy_rng("bootstrap", len(parts))
    return np.stack([np.bincount(rng.integers(0, n, n), minlength=n) @ parts for _ in range(count)])


def wilson(share: float, n: int) -> tuple[float, float]:
    """The interval of 95 % of a share of n items.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    middle, scale = share + Z**2 / (2 * n), 1 + Z**2 / n
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass(frozen=True)
class Spread:
    """A figure over several wordings of a task: how much of it is the wording's."""

    mean: float
    low: float
    high: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of two values or more; the deviation is that of a sample."""
        return cls(mean(values), min(values), max(values), stdev(values))
