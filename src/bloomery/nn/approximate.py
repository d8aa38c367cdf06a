"""What mixers have in common that come near softmax attention at less cost: they can say what they come near to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.attention import Attention, GroupedHeadsConfig
from bloomery.nn.cache import PlacedCache
from bloomery.nn.documents import each_document
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.mixer import Looks


class Approximate(ABC):
    """What a `SequenceMixer` inherits that comes near softmax attention."""

    @abstractmethod
    def exact(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        """What softmax attention to all that a token may see gives with the same weights."""


class LowRankConfig(GroupedHeadsConfig):
    """Softmax attention through fewer keys than there are tokens, made from all tokens of a document; so it cannot read forward only."""

    reads_forward: ClassVar[bool] = False

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        super().check_model(d_model, max_seq_len)
        if self.positions.bias(self.n_heads) is not None:
            raise self.refuse("positions", "adds a number to each score of two tokens, and here are no such scores; RotaryConfig() would do")


class LowRankAttention(Attention, Approximate):
    """Attention with the weights of `Attention`, where each document is mixed as a whole by `approximate`."""

    def __init__(self, d_model: int, config: GroupedHeadsConfig, rope: nn.Module) -> None:
        super().__init__(d_model, config, rope)

    @abstractmethod
    def approximate(
        self, queries: Float[Tensor, "documents time heads head_dim"], keys: Float[Tensor, "documents time kv_heads head_dim"],
        values: Float[Tensor, "documents time kv_heads head_dim"], lengths: Int[Tensor, " documents"],
    ) -> Float[Tensor, "documents time heads head_dim"]:
        """What the queries of each document make of all its keys and values, which are 0 behind its end."""

    def whole(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch time kv_heads head_dim"],
        values: Float[Tensor, "batch time kv_heads head_dim"], layout: SequenceLayout,
    ) -> Float[Tensor, "batch time heads head_dim"]:
        if layout.causal:
            raise ConfigError(f"{type(self).__name__} makes its keys from all tokens, also those to come; take a layout with causal=False")
        return each_document(self.approximate, layout, queries, keys, values)

    def looks(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Looks | None:
        return None

    def exact(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        return self.out(super().whole(*self.heads(x, layout), layout).flatten(2))

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> PlacedCache:
        raise NotImplementedError(f"{type(self).__name__} cannot read token by token")
