"""What modules say of themselves so that ranks can share their work. `spread` acts on it; their `forward` knows nothing of ranks.

A module that says nothing works place by place, and each rank asks it about its own places.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn


class Cut(NamedTuple):
    """How a parameter is shared: along a dimension in which blocks lie one after the other, each of them divided evenly."""

    dim: int
    blocks: tuple[int, ...]


class AlongTime:
    """Modules that need the whole time of a row to work. They are called with (batch, time, d_model) and a layout, and give the former."""


class Divided(ABC):
    """Modules of which several ranks can each have a share: what the shares say of the same input adds up to what the whole would say."""

    @abstractmethod
    def indivisible(self, ranks: int) -> str:
        """Why so many ranks cannot share it ("has n_kv_heads=6"); empty where they can."""

    @abstractmethod
    def divide(self, index: int, ranks: int) -> Mapping[str, Cut]:
        """Makes it one of `ranks` shares.

        Returns:
            The parameters, by their names within the module, of which this rank has a part only. Any other is whole on every rank, and the
            gradients that the ranks have of it add up.
        """


class Headed(Divided):
    """Attention that works head by head between making queries, keys and values and putting heads together."""

    whole: Callable[..., Any]
    """(queries, keys, values, layout) → what each head mixes; all but the layout are (batch, time, heads, head_dim)."""

    @abstractmethod
    def inseparable(self, ranks: int) -> str:
        """Why its heads cannot be dealt to so many ranks; empty where they can."""


class PerHead(ABC):
    """Modules that give something for each query head."""

    @abstractmethod
    def deal_heads(self, index: int, ranks: int) -> None:
        """Gives, from now on, only what is for one of `ranks` stretches of the heads."""


class Peopled(ABC):
    """Mixtures whose experts can live on different ranks."""

    consult: Callable[..., Any]
    """(rows in the order of their experts, (n_experts,) where each expert's end) → what the experts say, row by row."""

    @abstractmethod
    def unsettled(self, ranks: int) -> str:
        """Why the experts cannot be dealt to so many ranks; empty where they can."""

    @abstractmethod
    def settle(self, index: int, ranks: int) -> Mapping[str, Cut]:
        """Keeps the experts of one of `ranks` ranks; `consult` then knows these only. Returns which parameters this rank has a part of."""


class MixesRows:
    """Modules that mix the rows of a batch, and so cannot work where ranks read different rows."""


def share_bias(linear: nn.Linear, ranks: int) -> None:
    """Lets each of `ranks` shares of an output add its share of the bias, so that their sum has it once."""
    if linear.bias is not None:
        linear.register_forward_hook(lambda module, _, y: y - module.bias * ((ranks - 1) / ranks))
