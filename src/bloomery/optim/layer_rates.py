"""Learning rates by how far up in a model a parameter stands: what is near the text is general, and is to change less."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Gt, Le

from bloomery.core.config import Config
from bloomery.optim.groups import Member


class LayerRates(Config):
    """A factor on the learning rate of each layer. Subclasses write `factor`.

    Decoupled weight decay follows, as it is multiplied by the rate.
    """

    @abstractmethod
    def factor(self, layer: int, top: int) -> float:
        """The factor of a layer.

        Args:
            layer: 0 for embeddings, 1 … top − 1 for blocks, top for what stands above them: the last norm, and heads.
            top: number of blocks, plus 1.
        """

    def over(self, everything: Sequence[Member]) -> list[Member]:
        """The members at the rates of their layers."""
        return [replace(member, layer_rate=self.factor(*member.height)) for member in everything]


class EvenRates(LayerRates):
    """All layers learn alike."""

    def factor(self, layer: int, top: int) -> float:
        return 1.0


class Geometric(LayerRates):
    """Each layer learns more slowly than the one above it:  factor(l) = decay^(top − l).

    Source: Howard and Ruder (2018), ULMFiT, arXiv 1801.06146, section 3.2 (decay 1/2.6); with embeddings and head as layers of their own
    as in Clark et al. (2020), ELECTRA, arXiv 2003.10555, appendix B (0.8), and Bao et al. (2021), BEiT, arXiv 2106.08254.
    """

    decay: Annotated[float, Gt(0), Le(1)] = 0.8
    """Rate of a layer over that of the one above it."""

    def factor(self, layer: int, top: int) -> float:
        return self.decay ** (top - layer)


class CosineRates(LayerRates):
    """Half a cosine over the layers, from `bottom` at the embeddings to 1 at the head, flat at both ends.

        factor(l) = bottom + (1 − bottom)·½(1 − cos(π·l / top))

    Source: the form of Loshchilov and Hutter (2017), arXiv 1608.03983, over depth instead of time.
    """

    bottom: Annotated[float, Ge(0), Le(1)] = 0.1
    """Factor of the embeddings."""

    def factor(self, layer: int, top: int) -> float:
        return self.bottom + (1 - self.bottom) * 0.5 * (1 - math.cos(math.pi * layer / top))
