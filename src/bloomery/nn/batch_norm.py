"""`BatchNorm`: what images are normed by, here to be compared with on text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from annotated_types import Gt, Le
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bloomery.mesh.divide import MixesRows
from bloomery.nn.init import Draw, Initialised
from bloomery.nn.layout import PADDING, SequenceLayout
from bloomery.nn.norms import LayoutNorm, NormConfig


class BatchNormConfig(NormConfig):
    """See `BatchNorm`, above all what it breaks."""

    eps: Annotated[float, Gt(0)] = 1e-5
    """Added to the variance."""
    momentum: Annotated[float, Gt(0), Le(1)] = 0.1
    """How far each micro-batch pulls the running statistics towards its own."""

    def build(self, dim: int) -> nn.Module:
        return BatchNorm(dim, self.eps, self.momentum)


class BatchNorm(nn.Module, Initialised, LayoutNorm, MixesRows):
    """Takes from each feature its mean over all real tokens of the micro-batch, scales it to a variance of 1, then by a weight and bias.

        y = w · (x − mean) / √(var + eps) + b

    While training, mean and variance are those of the micro-batch; else the running ones, which are parameters without gradients, so that
    checkpoints hold them. Padding is not counted where the layout is known: in blocks, behind the embedding and behind the last block;
    other places (norms of queries and keys, the transform before a head) count all.

    It breaks what all else keeps: while training, a token's output depends on the other documents of the micro-batch and on what comes
    after it, so that a decoder can see its targets; and the size of the micro-batch changes the numbers.

    Args:
        dim: length of the vectors.
        eps: added to the variance, > 0.
        momentum: weight of a micro-batch in the running statistics, in (0, 1].

    Source: Ioffe and Szegedy (2015), arXiv 1502.03167; the running variance is unbiased, as in torch. On text: Shen et al. (2020), arXiv
    2003.07845.
    """

    def __init__(self, dim: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(dim)), nn.Parameter(torch.empty(dim))
        self.mean, self.variance = (nn.Parameter(torch.empty(dim), requires_grad=False) for _ in range(2))
        self.eps, self.momentum = eps, momentum

    def at(self, layout: SequenceLayout) -> Callable[[Tensor], Tensor]:
        return self if layout.segments is None else partial(self.forward, real=layout.segments != PADDING)

    def forward(self, x: Float[Tensor, "*batch dim"], real: Bool[Tensor, "*batch"] | None = None) -> Float[Tensor, "*batch dim"]:
        mean, variance = self._of_batch(x.float(), real) if self.training else (self.mean, self.variance)
        return ((x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias).type_as(x)

    def _of_batch(self, x: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance of each feature, which the running ones follow."""
        counts = x.new_ones(*x.shape[:-1], 1) if real is None else real[..., None].to(x.dtype)
        over, n = tuple(range(x.ndim - 1)), counts.sum().clamp(min=1)
        mean = (counts * x).sum(over) / n
        variance = (counts * (x - mean) ** 2).sum(over) / n
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance * n / (n - 1).clamp(min=1), self.momentum)
        return mean, variance

    def initialise(self, draw: Draw) -> None:
        """The factor and the variance start at 1, the bias and the mean at 0."""
        for parameter, value in ((self.weight, 1.0), (self.variance, 1.0), (self.bias, 0.0), (self.mean, 0.0)):
            draw.fill(parameter, value)
