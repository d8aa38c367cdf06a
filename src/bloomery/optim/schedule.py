"""Learning-rate schedules: closed forms of the step, from 0 to 1, that multiply each group's own rate."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from bloomery.core.config import Config

Extent = Annotated[int | float, Ge(0)]
"""A stretch of training: a whole number of steps, or, below 1 and not whole, a fraction of all steps."""


class Schedule(Config):
    """The factor on the learning rate as a function of the step, from 0 to 1. Subclasses write `factor`.

    It needs no state, so that a resumed run cannot lose its place.
    """

    def factor(self, step: int, steps: int) -> float:
        """The factor for the update of `step` (from 0) in a run of `steps`; in [0, 1]."""
        raise NotImplementedError


class Warmed(Schedule):
    """Schedules that begin with a linear warm-up. Subclasses write `shape`.

        factor(k) = (k + 1) / W  for k < W, then shape(k)
    """

    warmup: Extent = 0.02
    """Length of the linear warm-up, in steps (an int) or as a fraction of all steps (a float in [0, 1])."""

    def check(self) -> None:
        check_extent(self, "warmup")

    def factor(self, step: int, steps: int) -> float:
        warmup = extent(self.warmup, steps)
        return (step + 1) / warmup if step < warmup else self.shape(step, steps, warmup)

    def shape(self, step: int, steps: int, warmup: int) -> float:
        """The factor after the warm-up."""
        raise NotImplementedError


class Constant(Warmed):
    """Full rate after the warm-up."""

    def shape(self, step: int, steps: int, warmup: int) -> float:
        return 1.0


class Linear(Warmed):
    """A straight line from 1 to `final`.

        factor = 1 − (1 − final)·p,  p = (k − W) / (K − 1 − W)
    """

    final: Annotated[float, Ge(0), Le(1)] = 0.0
    """The factor at the last step."""

    def shape(self, step: int, steps: int, warmup: int) -> float:
        return 1 - (1 - self.final) * progress(step, steps, warmup)


class WarmupCosine(Warmed):
    """Half a cosine from 1 to `final`.

        factor = final + (1 − final)·½(1 + cos πp),  p = (k − W) / (K − 1 − W)

    Source: Loshchilov and Hutter (2017), arXiv 1608.03983, without restarts.
    """

    final: Annotated[float, Ge(0), Le(1)] = 0.1
    """The factor at the last step."""

    def shape(self, step: int, steps: int, warmup: int) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress(step, steps, warmup)))


class WarmRestarts(Warmed):
    """Half cosines from 1 to `final`, one after the other.

        factor = final + (1 − final)·½(1 + cos(π·t / Tᵢ)),  Tᵢ = T₀·growthⁱ in whole steps,  t = steps since the last restart

    Source: Loshchilov and Hutter (2017), SGDR, arXiv 1608.03983, equation 5.
    """

    warmup: Extent = 0
    """Length of the linear warm-up, in steps (an int) or as a fraction of all steps (a float in [0, 1])."""
    period: Extent = 0.1
    """T₀: steps to the first restart after the warm-up, or a fraction of all steps."""
    growth: Annotated[float, Ge(1)] = 2.0
    """How much longer each period is than the one before."""
    final: Annotated[float, Ge(0), Le(1)] = 0.0
    """What the factor falls to before a restart."""

    def check(self) -> None:
        super().check()
        check_extent(self, "period")

    def shape(self, step: int, steps: int, warmup: int) -> float:
        first, since = max(1, extent(self.period, steps)), step - warmup
        period, restarts = first, 0
        if self.growth == 1:
            since %= period
        while since >= period:
            since, restarts = since - period, restarts + 1
            period = round(first * self.growth**restarts)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * since / period))


class InverseSqrt(Warmed):
    """Falls with the square root of the step, so that the length of the run need not be known.

        factor = √(T / (T + k + 1 − W));  with T = W:  √(W / (k + 1))

    Source: Vaswani et al. (2017), arXiv 1706.03762, section 5.3; with a time scale of its own: Zhai et al. (2021), arXiv 2106.04560, section
    3.5.
    """

    timescale: Extent | None = None
    """T: steps (or a fraction of all) after which, beyond the warm-up, the factor is 1/√2; None is the warm-up's length."""

    def check(self) -> None:
        super().check()
        if self.timescale is not None:
            check_extent(self, "timescale")

    def shape(self, step: int, steps: int, warmup: int) -> float:
        scale = max(1, warmup if self.timescale is None else extent(self.timescale, steps))
        return math.sqrt(scale / (scale + step + 1 - warmup))


class Noam(Warmed):
    """The Transformer's schedule, as a factor: divided by its peak, at the end of the warm-up.

        rate(n) = d_model^−½ · min(n^−½, n·W^−1.5),  n = k + 1;  factor = rate(n) / rate(W) = min(√(W / n), n / W)

    Example:
        >>> schedule = Noam(warmup=4000)
        >>> optimizer = Adam(learning_rate=schedule.peak(d_model=512, steps=100_000), betas=(0.9, 0.98), eps=1e-9)

    Source: Vaswani et al. (2017), arXiv 1706.03762, equation 3.
    """

    warmup: Extent = 4000
    """W: length of the linear warm-up, in steps (an int) or as a fraction of all steps (a float in [0, 1])."""

    def shape(self, step: int, steps: int, warmup: int) -> float:
        return math.sqrt(max(1, warmup) / (step + 1))

    def peak(self, d_model: int, steps: int) -> float:
        """The full rate that makes it the Transformer's own: (d_model·W)^−½, for a run of `steps`."""
        return (d_model * max(1, extent(self.warmup, steps))) ** -0.5


class Sweep(Schedule):
    """Rises exponentially from `low` to 1: for finding out which rates a run can take.

        factor(k) = low^(1 − k / (K − 1))

    Source: Smith (2015), arXiv 1506.01186, section 3.3; exponentially, as rates are compared by their ratios.
    """

    low: Annotated[float, Gt(0), Le(1)] = 1e-5
    """The factor at the first step."""

    def factor(self, step: int, steps: int) -> float:
        return self.low ** (1 - min(step, steps - 1) / max(1, steps - 1))


class WSD(Warmed):
    """Warm-up, stable, decay: full rate, then a decay over the last stretch. What is trained before the decay can be continued.

        factor = 1 for k < K − D;  final + (1 − final)·g(p),  p = (k − K + D + 1) / D,  g(p) = 1 − p or 1 − √p

    Source: Hu et al. (2024), MiniCPM, arXiv 2404.06395 §4; the 1 − √p form: Hägele et al. (2024), arXiv 2405.18392.
    """

    decay: Extent = 0.2
    """Length of the decay at the end, in steps or as a fraction of all steps."""
    final: Annotated[float, Ge(0), Le(1)] = 0.0
    """The factor at the last step."""
    form: Literal["linear", "sqrt"] = "linear"
    """How the rate falls."""

    def check(self) -> None:
        super().check()
        check_extent(self, "decay")

    def shape(self, step: int, steps: int, warmup: int) -> float:
        decay = extent(self.decay, steps)
        into = step - (steps - decay) + 1
        if into <= 0:
            return 1.0
        fallen = min(1.0, into / decay)
        return self.final + (1 - self.final) * (1 - (math.sqrt(fallen) if self.form == "sqrt" else fallen))


def extent(value: int | float, steps: int) -> int:
    """A stretch in steps: an int is one already; a float is a fraction of all steps, rounded."""
    return value if isinstance(value, int) else round(value * steps)


def check_extent(config: Config, field: str) -> None:
    """Refuses a fraction that is none."""
    value = getattr(config, field)
    if isinstance(value, float) and value > 1:
        raise config.refuse(field, f"is a float above 1; write {round(value)} for steps, or a fraction of all steps")


def progress(step: int, steps: int, warmup: int) -> float:
    """How much of the run is over, from 0 after the warm-up to 1 at the last step."""
    return min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
