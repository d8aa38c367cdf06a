"""`Probe`: a question about a model that has figures for an answer; `View`: a look inside. Both are values; a new one is a file of its own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from bloomery.core.config import Config
from bloomery.stages.alignment.asked import Asked
from bloomery.stages.sheet import spread
from bloomery.stages.stage import Inputs


@dataclass(frozen=True)
class Figure:
    """A number with its uncertainty.

    Attributes:
        value: what was measured.
        error: its standard error, for samples drawn independently; 0 where none is known.
        of: samples.
        unit: "%" for shares, "nats", or "" for a plain number.
    """

    value: float
    error: float
    of: int
    unit: str = "%"

    @classmethod
    def mean(cls, values: Sequence[float], unit: str = "%") -> Figure:
        """The mean of some values; NaN of none."""
        if not values:
            return cls(math.nan, 0.0, 0, unit)
        return cls(mean(values), spread(values) / math.sqrt(len(values)), len(values), unit)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        value, error = (100 * self.value, 100 * self.error) if self.unit == "%" else (self.value, self.error)
        unit = "%" if self.unit == "%" else ""
        return f"{value:.{1 if unit else 3}f}{unit}" + (f" ± {error:.{1 if unit else 3}f}" if self.error else "")


@dataclass(frozen=True)
class Finding:
    """What a probe found.

    Attributes:
        figures: by name.
        rows: examples to be read, the head of their table first; from the worst on.
    """

    figures: dict[str, Figure]
    rows: Sequence[tuple[str, ...]] = ()


class Probe(Config, ABC):
    """A question about a model."""

    name: str
    """Of it, in tables."""

    @abstractmethod
    def measure(self, asked: Asked, inputs: Inputs) -> Finding:
        """Puts it.

        Args:
            asked: the model.
            inputs: the artifacts of the stages among the fields.
        """


@dataclass(frozen=True)
class Shown:
    """A look inside.

    Attributes:
        title: what it is.
        html: the picture; all text in it is escaped.
        plain: what it shows, for a program.
    """

    title: str
    html: str
    plain: dict[str, Any] = field(default_factory=dict)


class View(Config, ABC):
    """A look inside a model while it reads a text."""

    @abstractmethod
    def look(self, asked: Asked, inputs: Inputs) -> Shown:
        """Takes it; the arguments are those of `Probe.measure`."""
