"""Matrices in few bits, block by block: the ways to keep them, and the linear map that multiplies with one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Integer
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters.shells import Multiplies
from bloomery.nn.adapters.thin import Make
from bloomery.nn.linear import Linear
from bloomery.nn.part import Part

LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
    0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
"""Quantiles of a normal distribution, with a 0 among them: Dettmers et al. (2023), arXiv 2305.14314, appendix E."""


class Quantisation(Part):
    """How the numbers of a matrix are kept: each as a code of few bits, times the largest of its block."""

    block: int = Field(default=64, ge=2)
    """Neighbours in a row that have a scale in common, at most; the largest divisor of the row's length is taken."""

    def length(self, columns: int) -> int:
        """Of the blocks in rows of so many columns."""
        return max(n for n in range(1, min(self.block, columns) + 1) if columns % n == 0)

    @abstractmethod
    def empty(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Codes and scales of a matrix, with nothing in them."""

    @abstractmethod
    def codes(self, shares: Float[Tensor, "rows blocks length"]) -> Integer[Tensor, "rows packed"]:
        """Of numbers from −1 to 1."""

    @abstractmethod
    def shares(self, codes: Integer[Tensor, "rows packed"]) -> Float[Tensor, "rows columns"]:
        """The numbers that codes stand for."""

    def quantise(self, weight: Float[Tensor, "rows columns"]) -> tuple[Tensor, Tensor]:
        """Codes and scales of a matrix."""
        blocks = weight.detach().float().unflatten(1, (-1, self.length(weight.shape[1])))
        scales = blocks.abs().amax(-1)
        return self.codes(blocks / scales.clamp(min=torch.finfo(torch.float32).tiny)[..., None]), scales

    def dequantise(self, codes: Integer[Tensor, "rows packed"], scales: Float[Tensor, "rows blocks"]) -> Float[Tensor, "rows columns"]:
        """The matrix."""
        return (self.shares(codes).unflatten(1, (scales.shape[1], -1)) * scales[..., None]).flatten(1)


class Int8(Quantisation):
    """255 equal steps from −max to max: 8.5 bits per number in blocks of 64.

    Source: block-wise as in Dettmers et al. (2022), arXiv 2110.02861, with linear steps.
    """

    def empty(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        return torch.empty(rows, columns, dtype=torch.int8), torch.empty(rows, columns // self.length(columns))

    def codes(self, shares: Float[Tensor, "rows blocks length"]) -> Integer[Tensor, "rows packed"]:
        return (shares * 127).round().to(torch.int8).flatten(1)

    def shares(self, codes: Integer[Tensor, "rows packed"]) -> Float[Tensor, "rows columns"]:
        return codes.float() / 127


class Nf4(Quantisation):
    """The nearest of 16 quantiles of a normal distribution: 4.5 bits per number in blocks of 64, two of them in a byte.

    Source: Dettmers et al. (2023), arXiv 2305.14314, section 3.
    """

    def empty(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        if columns % 2:
            raise ConfigError(f"Nf4 keeps two numbers in a byte, and a matrix has {columns} columns; take Int8()")
        return torch.empty(rows, columns // 2, dtype=torch.uint8), torch.empty(rows, columns // self.length(columns))

    def codes(self, shares: Float[Tensor, "rows blocks length"]) -> Integer[Tensor, "rows packed"]:
        levels = torch.tensor(LEVELS, device=shares.device)
        nearest = torch.bucketize(shares.flatten(1), (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
        return nearest[:, ::2] * 16 + nearest[:, 1::2]

    def shares(self, codes: Integer[Tensor, "rows packed"]) -> Float[Tensor, "rows columns"]:
        both = torch.stack((codes >> 4, codes & 15), dim=-1).flatten(1)
        return torch.tensor(LEVELS, device=codes.device)[both.int()]


class QuantisedLinear(Multiplies):
    """A `Linear` whose matrix is kept in few bits and does not learn. Parameters: codes, scales (and bias), in place of weight."""

    keeps: ClassVar[tuple[str, ...]] = ("codes", "scales")

    def __init__(self, linear: Linear, quantisation: Quantisation) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.heights, linear.uses, bias=linear.bias is not None)
        self.bias, self.quantisation = linear.bias, quantisation
        self.register_parameter("weight", None)
        codes, scales = quantisation.empty(linear.out_features, linear.in_features)
        if linear.weight.device.type != "meta":
            codes, scales = quantisation.quantise(linear.weight)
        self.codes, self.scales = (nn.Parameter(tensor, requires_grad=False) for tensor in (codes, scales))
        self.adapters = nn.ModuleDict()
        self.full: Tensor | None = None

    def bare(self, kept: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        return self.quantisation.dequantise(*(kept[name] for name in self.keeps))

    @property
    def shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    @property
    def kept(self) -> tuple[Tensor, ...]:
        return self.codes, self.scales

    @property
    def make(self) -> Make:
        return self.quantisation.dequantise

    def multiplied(self, x: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch rows"]:
        if self.full is not None:
            return F.linear(x, self.full, self.bias)
        y: Tensor = _Product.apply(x, self.codes, self.scales, self.quantisation)  # type: ignore[assignment]
        return y if self.bias is None else y + self.bias

    def told(self, own: str, whole: Tensor) -> Mapping[str, Tensor]:
        return dict(zip(self.keeps, self.quantisation.quantise(whole), strict=True)) if own == "weight" else {own: whole}

    @torch.no_grad()
    def merge(self) -> None:
        """Keeps the matrix with its active adapters in it, in full precision, beside the one in few bits."""
        if self.before is None:
            self.full, self.before = self.matrix, self.scales.detach()

    def unmerge(self) -> None:
        """Lets go of it."""
        self.full = self.before = None


class _Product(torch.autograd.Function):
    """W·x, of which the backward pass makes W again, so that no pass keeps it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor, quantisation: Quantisation) -> Tensor:
        ctx.quantisation = quantisation
        ctx.save_for_backward(codes, scales)
        return F.linear(x, quantisation.dequantise(codes, scales))

    @staticmethod
    def backward(ctx: Any, *by_results: Tensor) -> tuple[Tensor | None, ...]:
        weight = ctx.quantisation.dequantise(*ctx.saved_tensors)
        return by_results[0] @ weight.to(by_results[0].dtype), None, None, None
