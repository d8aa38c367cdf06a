"""`SequenceMixer`: the contract of whatever moves information between the places of a sequence; `MixerConfig`: its value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bloomery.mesh.divide import AlongTime
from bloomery.nn.cache import Cache
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.part import Part, Shared


class Looks(NamedTuple):
    """Where the heads of attention look in rows read at once.

    Attributes:
        weights: of the keys (last) for each query; they add up to 1.
        seen: True where a query may look at all.
    """

    weights: Float[Tensor, "batch heads time time"]
    seen: Bool[Tensor, "#batch 1 time time"]


class SequenceMixer(nn.Module, AlongTime, ABC):
    """A layer in which tokens see each other: attention in its forms, state-space models.

    What it promises, and `tests/contracts/test_mixers.py` proves for every `MixerConfig`: a token's output depends on nothing outside its
    own segment and, under a causal layout, on nothing after it; and reading a sequence in pieces through a cache gives what reading it at
    once gives.
    """

    reads_once: ClassVar[bool] = False
    """Whether it asks the layout to have whole rows mixed (`SequenceLayout.mixed`), so that it can be handed the distinct places of rows
    that begin alike, and their layout `Once`."""

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """Mixes along time.

        Args:
            x: (batch, time, d_model).
            layout: which tokens see which, and their positions; with a cache, of the new tokens only.
            cache: what earlier calls left, from `new_cache`; written to in place. None reads the whole sequence at once.

        Returns:
            (batch, time, d_model).
        """

    def looks(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Looks | None:
        """Where each head of each place looks, for mixers that are softmax attention by its definition; None for all others."""
        return None

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> Cache:
        """An empty cache for `batch` rows of at most `capacity` tokens. A mixer that reads in both directions only has none."""
        raise NotImplementedError(f"{type(self).__name__} cannot read token by token")


class MixerConfig(Part):
    """How tokens see each other, as a value."""

    reads_forward: ClassVar[bool] = True
    """Whether it can work under a causal layout (and then has a cache)."""
    reads_both_ways: ClassVar[bool] = True
    """Whether it can work under a layout in which tokens see what comes after them."""

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        """Refuses a model that it does not fit, via `self.refuse`; called when the model's config is built."""

    @abstractmethod
    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> SequenceMixer:
        """The layer.

        Args:
            d_model: width of input and output.
            max_seq_len: positions run below it.
            shared: for modules that the layers of a model have in common.
        """

    @abstractmethod
    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        """Floating-point operations of the forward pass per token in rows of `seq_len` tokens: matrix products, a multiply-add as two."""


def one_per_key(keys: Float[Tensor, "batch past heads head_dim"]) -> Float[Tensor, "batch past heads past"]:
    """Values that are 1 at their own place and 0 at all others: what a query makes of them are its weights."""
    batch, past, heads, _ = keys.shape
    return torch.eye(past, dtype=keys.dtype, device=keys.device)[None, :, None].expand(batch, past, heads, past)
