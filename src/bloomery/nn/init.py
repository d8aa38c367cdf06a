"""Initialisation as a value: from which normal distribution each kind of matrix is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.rng import derive_seed


class WeightInit(Config, ABC):
    """Standard deviations for the matrices of a model; their mean is 0, and norm weights start at 1."""

    @abstractmethod
    def embedding_std(self, d_model: int) -> float:
        """For the rows of the embedding table (and of a head tied to it)."""

    @abstractmethod
    def matrix_std(self, fan_in: int) -> float:
        """For a matrix with `fan_in` inputs."""

    def residual_std(self, fan_in: int, n_layers: int) -> float:
        """For a matrix that writes to the residual stream.

        Smaller by √(2·n_layers), so that the variance of the stream after two writes per layer does not grow with depth.
        """
        return self.matrix_std(fan_in) / sqrt(2 * n_layers)

    def wire(self, embedding: Float[Tensor, "vocab d_model"], mixers: Sequence[Any], rope_theta: float, seed: int) -> None:
        """Changes weights in place once all are drawn; most initialisations change none.

        Args:
            embedding: the table.
            mixers: of the layers, the first one first.
            rope_theta: base of the rotary wavelengths.
            seed: of the model.
        """


class NormalInit(WeightInit):
    """One standard deviation for every matrix.

    Source: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", section 2.3.
    """

    std: float = Field(default=0.02, gt=0)
    """Standard deviation."""

    def embedding_std(self, d_model: int) -> float:
        return self.std

    def matrix_std(self, fan_in: int) -> float:
        return self.std


class FanInInit(WeightInit):
    """Standard deviation gain/√fan_in, so that the scale of activations does not depend on the width of the model.

    Source: LeCun et al. (1998), "Efficient BackProp", section 4.6.
    """

    gain: float = Field(default=1.0, gt=0)
    """Factor on 1/√fan_in."""
    embedding: float = Field(default=0.02, gt=0)
    """Standard deviation of the embedding table."""

    def embedding_std(self, d_model: int) -> float:
        return self.embedding

    def matrix_std(self, fan_in: int) -> float:
        return self.gain / sqrt(fan_in)


def fill_normal(parameter: Tensor, std: float, seed: int, name: str) -> None:
    """Draws a parameter in place from N(0, std²), from a stream of its own: neither order nor global state matters.

    Args:
        parameter: any shape, on the CPU.
        std: standard deviation.
        seed: of the model.
        name: the parameter's canonical path.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "init", name))
    with torch.no_grad():
        parameter.normal_(0.0, std, generator=generator)
