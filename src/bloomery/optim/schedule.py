"""Learning-rate schedules: closed forms of the step, from 0 to 1, that multiply each group's own rate."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, Le

from bloomery.core.config import Config

Extent = Annotated[int | float, Ge(0)]
"""A stretch of training: a whole number of steps, or, below 1 and not whole, a fraction of all steps."""


class Schedule(Config):
    """The factor on the learning rate as a function of the step. Subclasses write `shape`; the linear warm-up is common to all.

        factor(k) = (k + 1) / W  for k < W, then shape(k)

    It needs no state, so that a resumed run cannot lose its place.
    """

    warmup: Extent = 0.02
    """Length of the linear warm-up, in steps (an int) or as a fraction of all steps (a float in [0, 1])."""

    def check(self) -> None:
        if isinstance(self.warmup, float) and self.warmup > 1:
            raise self.refuse("warmup", f"is a float above 1; write {round(self.warmup)} for steps, or a fraction of all steps")

    def factor(self, step: int, steps: int) -> float:
        """The factor for the update of `step` (from 0) in a run of `steps`; in [0, 1]."""
        warmup = extent(self.warmup, steps)
        return (step + 1) / warmup if step < warmup else self.shape(step, steps, warmup)

    def shape(self, step: int, steps: int, warmup: int) -> float:
        """The factor after the warm-up."""
        raise NotImplementedError


class Constant(Schedule):
    """Full rate after the warm-up."""

    def shape(self, step: int, steps: int, warmup: int) -> float:
        return 1.0


class WarmupCosine(Schedule):
    """Half a cosine from 1 to `final`.

        factor = final + (1 − final)·½(1 + cos πp),  p = (k − W) / (K − 1 − W)

    Source: Loshchilov and Hutter (2017), arXiv 1608.03983, without restarts.
    """

    final: Annotated[float, Ge(0), Le(1)] = 0.1
    """The factor at the last step."""

    def shape(self, step: int, steps: int, warmup: int) -> float:
        progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class WSD(Schedule):
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
        if isinstance(self.decay, float) and self.decay > 1:
            raise self.refuse("decay", f"is a float above 1; write {round(self.decay)} for steps, or a fraction of all steps")

    def shape(self, step: int, steps: int, warmup: int) -> float:
        decay = extent(self.decay, steps)
        into = step - (steps - decay) + 1
        if into <= 0:
            return 1.0
        progress = min(1.0, into / decay)
        return self.final + (1 - self.final) * (1 - (math.sqrt(progress) if self.form == "sqrt" else progress))


def extent(value: int | float, steps: int) -> int:
    """A stretch in steps: an int is one already; a float is a fraction of all steps, rounded."""
    return value if isinstance(value, int) else round(value * steps)
