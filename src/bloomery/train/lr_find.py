"""Which learning rates a run can take: a short training under a rate that rises until the loss does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bloomery.core.errors import NumericsError
from bloomery.data.source import Source
from bloomery.optim import NoRamp, Sweep
from bloomery.train.loop import Course, StepReport, train
from bloomery.train.manner import Manner
from bloomery.train.state import TrainState

WIDTH = 2.0  # steps, of the bell that smooths
GIVE_UP = 2.0  # times the least loss


@dataclass(frozen=True)
class RateSweep:
    """What was seen at each rate.

    Attributes:
        rates: ascending, a fixed ratio apart.
        losses: before the update at each rate, so after those at all lower ones.
        diverged: whether it ended because the loss went up or was no number, and not because `high` was reached.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: bool

    @property
    def smoothed(self) -> list[float]:
        """Means of losses around each rate, under a bell:  sᵢ = Σⱼ wᵢⱼ·lⱼ / Σⱼ wᵢⱼ,  wᵢⱼ = exp(−½((i − j) / width)²)."""
        places = range(len(self.losses))
        weights = [[math.exp(-0.5 * ((i - j) / WIDTH) ** 2) for j in places] for i in places]
        return [sum(w * loss for w, loss in zip(row, self.losses, strict=True)) / sum(row) for row in weights]

    @property
    def lowest(self) -> float | None:
        """The rate at which the smoothed loss was least; None where it never fell."""
        smoothed = self.smoothed
        place = smoothed.index(min(smoothed)) if smoothed else 0
        return self.rates[place] if place else None

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss fell fastest per e-fold of the rate; None where it never fell."""
        if self.lowest is None:
            return None
        smoothed, last = self.smoothed, self.rates.index(self.lowest)
        falls = [smoothed[max(i - 1, 0)] - smoothed[i + 1] for i in range(last)]
        return self.rates[max(range(last), key=falls.__getitem__)]

    @property
    def tenth(self) -> float | None:
        """A tenth of `lowest`: where the loss still falls, well before it rises."""
        return None if self.lowest is None else self.lowest / 10


def sweep_rates(
    state: TrainState, source: Source, course: Course, manner: Manner, low: float, high: float,
    each: Callable[[StepReport], None] = lambda report: None,
) -> RateSweep:
    """Trains `course.steps` steps while the rate rises exponentially from `low` to `high`, or until the loss is twice the least.

        rate(k) = low·(high / low)^(k / (K − 1))

    Args:
        state: fresh; its optimiser's learning rate is `high`, as `OptimizerConfig.at` makes it. Of no use afterwards.
        source: of the run that the rate is for.
        course: of that run, but for its steps; its schedule is replaced, and its batch is full from the start.
        manner: how steps are computed.
        low: the lowest rate, below `high`.
        high: the highest rate.
        each: told of every step.

    Source: Smith (2015), arXiv 1506.01186, section 3.3; the exponential form and both suggestions as in fastai (Howard and Gugger 2020, arXiv
    2002.04688). Departure: the smoothing looks both ways, so that nothing is late.
    """
    sweep = Sweep(low=low / high)
    rates: list[float] = []
    losses: list[float] = []
    try:
        for report in train(state, source, replace(course, schedule=sweep, ramp=NoRamp()), manner):
            rates.append(high * sweep.factor(report.step - 1, course.steps))
            losses.append(report.loss)
            each(report)
            if losses[-1] > GIVE_UP * min(losses):
                return RateSweep(tuple(rates), tuple(losses), True)
    except NumericsError:
        return RateSweep(tuple(rates), tuple(losses), True)
    return RateSweep(tuple(rates), tuple(losses), False)
