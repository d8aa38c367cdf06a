"""`SequenceMixer`: the contract of whatever moves information between the places of a sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.nn.cache import Cache
from bloomery.nn.layout import SequenceLayout


class SequenceMixer(nn.Module, ABC):
    """A layer in which tokens see each other: attention in its forms, state-space models.

    What it promises, and `tests/contracts/test_mixers.py` proves for every subclass: a token's output depends on nothing outside its own
    segment and, under a causal layout, on nothing after it; and reading a sequence in pieces through a cache gives what reading it at
    once gives.
    """

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

    @abstractmethod
    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> Cache:
        """An empty cache for `batch` rows of at most `capacity` tokens."""
