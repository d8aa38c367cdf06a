"""`LossScale`: what losses are multiplied by in fp16, whose smallest numbers gradients would fall below, and whose largest they may exceed."""

from __future__ import annotations

from dataclasses import dataclass

GROW_AFTER = 2000  # steps that went well
LEAST, FIRST = 1.0, 2.0**16


@dataclass(frozen=True)
class LossScale:
    """A power of two on the loss, taken off the gradients again before anything looks at them.

    It is halved when a gradient comes out as no number, and the same step is done again, so that no row is lost; it is doubled after a long
    time without that. At 1 a gradient that is no number is what it is anywhere else.

    Attributes:
        factor: on the loss.
        healthy: steps since it last changed.

    Source: Micikevicius et al. (2017), arXiv 1710.03740, section 3.2; doubling and halving as in torch's GradScaler. Departure: a step that
    overflows is done again and not left out.
    """

    factor: float = FIRST
    healthy: int = 0

    def after(self, finite: bool) -> LossScale:
        """The scale after a step whose gradient was finite or not."""
        if not finite:
            return LossScale(max(LEAST, self.factor / 2))
        return LossScale(self.factor * 2) if self.healthy + 1 == GROW_AFTER else LossScale(self.factor, self.healthy + 1)
