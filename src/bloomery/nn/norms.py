"""Normalisation layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RMSNorm(nn.Module):
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
