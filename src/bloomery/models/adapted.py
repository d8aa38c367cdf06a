"""A model with an adapter: the model that it was, under the same names, and what is trained beside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bloomery.models.model import Model, ModelConfig, OnBase, Stored
from bloomery.nn.adapters import Adapter, shells
from bloomery.nn.adapters.shells import telling
from bloomery.nn.init import Fill, Pour


class AdaptedConfig(OnBase, ModelConfig):
    """A model of any family with an adapter on it. One that has an adapter already can be the base of another.

    Example:
        >>> base = LlamaConfig(vocab_size=2048, d_model=192, n_layers=4, n_heads=6)
        >>> AdaptedConfig(base=base, adapter=LoRA(rank=4, targets=("query", "value"))).n_params
        18432
    """

    base: ModelConfig
    """The model, whose weights stay as they are."""
    adapter: Adapter
    """What is trained instead."""

    def check(self) -> None:
        with torch.device("meta"):
            self.skeleton()  # what the adapter refuses, it refuses when the config is built

    @property
    def max_seq_len(self) -> int:
        return self.base.max_seq_len - self.adapter.n_virtual

    @property
    def reads_prefix(self) -> bool:
        return self.base.reads_prefix

    @property
    def reads_passage(self) -> bool:
        return self.base.reads_passage

    def skeleton(self) -> Model:
        model = self.base.skeleton()
        self.adapter.attach(model)
        model.config = self
        return model

    def build(self, seed: int) -> Any:
        model = self.base.build(seed)
        self.adapter.attach(model, seed)
        model.config = self
        return model

    @property
    def n_weights(self) -> int:
        """Number of the base's parameters."""
        return self.base.n_weights if isinstance(self.base, AdaptedConfig) else self.base.n_params

    @cached_property
    def trained(self) -> list[str]:
        """Names of the parameters that are trained, in order."""
        with torch.device("meta"):
            return [name for name, parameter in self.skeleton().named_parameters() if parameter.requires_grad]

    @cached_property
    def fixed(self) -> frozenset[str]:
        with torch.device("meta"):
            changing = {name for name, p in self.base.skeleton().named_parameters() if not p.requires_grad}  # statistics, not weights
            frozen = {name for name, p in self.skeleton().named_parameters() if not p.requires_grad}
        return self.base.fixed | (frozen - changing)

    def filled(self, base: Fill, seed: int) -> Fill:
        """What tells all weights of a model with the adapter: those of its base, and fresh ones of the adapter.

        Args:
            base: tells the weights of the base.
            seed: of the adapter's.
        """
        with torch.device("meta"):
            model = self.skeleton()

        def fill(pour: Pour) -> None:
            self.adapter.draw(model, seed, pour)
            base(telling(model, self.adapter.name, pour))  # what follows from weights takes the place of what was drawn

        return fill

    def stored(self) -> Stored:
        """With the adapter merged into the weights of the base, where that can be."""
        if not self.adapter.merges:
            return super().stored()
        with torch.device("meta"):
            around, name = shells(self.skeleton()), self.adapter.name

        def reads(parameter: str) -> list[str]:
            path, _, own = parameter.rpartition(".")
            if path not in around or name not in around[path].adapters:
                return [parameter]
            return [f"{path}.{key}" for key in around[path].reads(own, name)]

        def make(parameter: str, wholes: Mapping[str, Tensor]) -> Tensor:
            path, _, own = parameter.rpartition(".")
            if path not in around or name not in around[path].adapters:
                return wholes[parameter]
            return around[path].merged(own, name, {key.removeprefix(f"{path}."): whole for key, whole in wholes.items()})

        return Stored(self.base, reads, make)

    def flops_per_token(self, seq_len: int) -> float:
        """As the base's, but for the gradients of its weights, which nobody asks for: two thirds, and the adapter's own."""
        return self.base.flops_per_token(seq_len) * 2 / 3 + 6.0 * self.n_params


def beneath(config: ModelConfig) -> ModelConfig:
    """A model without the adapters on it."""
    while isinstance(config, AdaptedConfig):
        config = config.base
    return config
