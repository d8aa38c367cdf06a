"""What every model family offers: `ModelConfig` says what it is and what it costs, `CausalModel` predicts the next token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.config import Config
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.layout import SequenceLayout


@dataclass(frozen=True)
class HubTensor:
    """A tensor as checkpoints on the Hugging Face hub name it, and its shape there."""

    name: str
    shape: tuple[int, ...]


class ModelConfig(Config, ABC):
    """The architecture of a model: what it is made of, what it costs, and how it is called elsewhere."""

    hub_architecture: ClassVar[str]
    """The class that reads such a model in the `transformers` library."""

    vocab_size: int
    """Number of token ids."""
    d_model: int
    """Width of the residual stream."""
    n_layers: int
    """Number of blocks."""
    max_seq_len: int
    """The longest sequence that the model can read, in tokens."""

    @abstractmethod
    def build(self, seed: int) -> CausalModel:
        """A model with fresh weights on the CPU in float32: the same for the same seed, whatever was drawn before."""

    @property
    @abstractmethod
    def n_params(self) -> int:
        """Number of trainable parameters; tied ones count once."""

    @abstractmethod
    def flops_per_token(self, seq_len: int) -> float:
        """Floating-point operations of one training step, forward and backward, per token of rows of `seq_len` tokens."""

    @abstractmethod
    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        """Our parameter → the hub tensors that it is made of, stacked along their first dimension."""

    def hub_copies(self) -> set[str]:
        """Names of hub tensors that only repeat others, and are not read."""
        return set()

    @abstractmethod
    def to_hub(self) -> dict[str, Any]:
        """The `config.json` of a hub folder."""

    @classmethod
    @abstractmethod
    def from_hub(cls, plain: dict[str, Any]) -> ModelConfig:
        """Reads the `config.json` of a hub folder; raises `DataError` naming whatever we don't support."""


class CausalModel(nn.Module, ABC):
    """A model that predicts each token from those before it.

    `forward` is `unembed(features(…))`; a loss that never holds all logits at once takes the features and `head_weight` instead.
    """

    config: ModelConfig

    @property
    @abstractmethod
    def head_weight(self) -> Float[Tensor, "vocab d_model"]:
        """The matrix that turns features into logits."""

    @abstractmethod
    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """The residual stream after the last block and the final norm.

        Args:
            tokens: (batch, time) ids below vocab_size.
            layout: which tokens see which, and their positions below max_seq_len.
            cache: from `new_cache`, written to in place; `tokens` and `layout` are then of the new tokens only.
        """

    @abstractmethod
    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        """An empty cache for `batch` rows of at most `capacity` tokens, on the model's device and in its precision."""

    def unembed(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of the next token."""
        return nn.functional.linear(features, self.head_weight)

    def forward(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits of the next token at every place; the arguments are those of `features`."""
        return self.unembed(self.features(tokens, layout, cache))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head_weight.device
