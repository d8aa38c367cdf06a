"""How high a training's learning rate is, where that follows from another training."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt

from bloomery.core.config import Config
from bloomery.optim import OptimizerConfig
from bloomery.stages.trained import Trained


class Rate(Config):
    """Where the full learning rate comes from. Subclasses write `given_to`."""

    def given_to(self, optimizer: OptimizerConfig) -> OptimizerConfig:
        """The optimiser at that rate; what goes with its rate keeps its ratio."""
        raise NotImplementedError


class OwnRate(Rate):
    """The optimiser's own `learning_rate`."""

    def given_to(self, optimizer: OptimizerConfig) -> OptimizerConfig:
        return optimizer


class ShareOf(Rate):
    """A share of the highest rate of another training, as that of pre-training for what is tuned on it:  η = share · η_base.

    The base's rate is the one that its full batch had (`batch_rule`), before its schedule's factor.
    """

    base: Trained
    """The training, or a conversion of what it left."""
    share: Annotated[float, Gt(0)] = 0.1
    """Of its rate."""

    def check(self) -> None:
        if self.base.peak_rate is None:
            raise self.refuse("base", "was not trained here, so that its rate is not known; give the optimizer a learning_rate")

    def given_to(self, optimizer: OptimizerConfig) -> OptimizerConfig:
        assert self.base.peak_rate is not None  # `check` refuses it
        return optimizer.at(self.share * self.base.peak_rate)
