"""Normalisation layers, and the values they are built from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.nn.init import Draw, Initialised
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.part import Part

Norm = Callable[[Tensor], Tensor]
"""(*batch, dim) → the same shape."""


class LayoutNorm(ABC):
    """What norms inherit that ask which of the tokens are real, or that stand on both ends of a branch."""

    @abstractmethod
    def at(self, layout: SequenceLayout) -> Any:
        """The norm for tokens that are laid out so."""


def at(norm: nn.Module, layout: SequenceLayout) -> Any:
    """A norm for tokens that are laid out so: most do not care."""
    return norm.at(layout) if isinstance(norm, LayoutNorm) else norm


class NormConfig(Part):
    """How vectors are normalised."""

    @abstractmethod
    def build(self, dim: int) -> nn.Module:
        """The layer for vectors of `dim` features: (*batch, dim) → (*batch, dim)."""


class RMSNormConfig(NormConfig):
    """See `RMSNorm`."""

    eps: Annotated[float, Gt(0)] = 1e-5
    """Added to the mean square."""
    around_one: bool = False
    """Whether the factor is 1 + w with w from 0, as in Gemma, so that decay pulls it to 1."""

    def build(self, dim: int) -> nn.Module:
        return CenteredRMSNorm(dim, self.eps) if self.around_one else RMSNorm(dim, self.eps)


class LayerNormConfig(NormConfig):
    """See `LayerNorm`."""

    eps: Annotated[float, Gt(0)] = 1e-5
    """Added to the variance."""
    bias: bool = True
    """Whether a learnt vector is added."""

    def build(self, dim: int) -> nn.Module:
        return LayerNorm(dim, self.eps, self.bias)


class NoNormConfig(NormConfig):
    """Vectors stay as they are."""

    def build(self, dim: int) -> nn.Module:
        return nn.Identity()


class RMSNorm(nn.Module, Initialised):
    """Scales each vector to a root mean square of 1, then by a learnt weight per feature.

        y = w · x / √(mean(x²) + eps)

    Args:
        dim: length of the vectors.
        eps: added to the mean square, > 0.

    Source: Zhang and Sennrich (2019), arXiv 1910.07467.
    """

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)

    def initialise(self, draw: Draw) -> None:
        """The factor starts at 1."""
        draw.fill(self.weight, 1.0)


class CenteredRMSNorm(RMSNorm):
    """`RMSNorm` with the factor 1 + w:  y = (1 + w) · x / √(mean(x²) + eps), in float32 at least.

    Source: Gemma Team (2024), arXiv 2403.08295, and its published code.
    """

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        wide = torch.promote_types(x.dtype, torch.float32)  # in which 1 + w does not lose a small w
        return F.rms_norm(x.to(wide), self.weight.shape, 1.0 + self.weight.to(wide), self.eps).type_as(x)

    def initialise(self, draw: Draw) -> None:
        """w starts at 0."""
        draw.fill(self.weight, 0.0)


class LayerNorm(nn.LayerNorm, Initialised):
    """Takes the mean from each vector, scales it to a variance of 1, then by a learnt weight and bias per feature.

        y = w · (x − mean(x)) / √(var(x) + eps) + b

    Args:
        dim: length of the vectors.
        eps: added to the variance, > 0.
        bias: whether there is a b.

    Source: Ba et al. (2016), arXiv 1607.06450.
    """

    def __init__(self, dim: int, eps: float, bias: bool = True) -> None:
        super().__init__(dim, eps=eps, bias=bias)

    def initialise(self, draw: Draw) -> None:
        """The factor starts at 1, the bias at 0."""
        draw.fill(self.weight, 1.0)
        if self.bias is not None:
            draw.fill(self.bias, 0.0)
