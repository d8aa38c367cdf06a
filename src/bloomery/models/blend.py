"""Models made of several of one architecture by averaging their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.model import Model, ModelConfig


def check_alike(configs: Sequence[ModelConfig | None], where: str) -> None:
    """Raises `ConfigError` where models that are known differ, so that their weights have no mean."""
    known = [config for config in configs if config is not None]
    for other in known[1:]:
        if other != known[0]:
            raise ConfigError(f"{where} are of {known[0]} and of {other}; only weights of one architecture have a mean")


def blended(models: Sequence[Model], shares: Sequence[float]) -> Iterator[tuple[str, Tensor]]:
    """Σ shareᵢ·θᵢ of each weight, by name, summed in double precision.

    Args:
        models: of one architecture.
        shares: of each; they need not be positive, nor add up to 1.
    """
    parameters = [dict(model.named_parameters()) for model in models]
    for name, first in parameters[0].items():
        total = torch.zeros(first.shape, dtype=torch.float64)
        for share, own in zip(shares, parameters, strict=True):
            total += share * own[name].detach().double()
        yield name, total.to(first.dtype)


def pour_blend(model: Model, models: Sequence[Model], shares: Sequence[float]) -> None:
    """Fills a model with a blend."""
    target = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in blended(models, shares):
            target[name].copy_(value)
