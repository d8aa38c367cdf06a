"""Feed-forward layers: what happens at each place by itself. And the values they are built from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.mesh.divide import Cut, Divided, share_bias
from bloomery.nn.linear import Linear, Use
from bloomery.nn.part import Part

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu_squared", "tanh"]
"""`gelu` is exact (with erf), `gelu_tanh` its approximation by tanh."""


def activation_function(name: Activation) -> Callable[[Tensor], Tensor]:
    """What a name of `Activation` stands for."""
    return {
        "silu": F.silu, "gelu": F.gelu, "gelu_tanh": _gelu_tanh, "relu": F.relu, "relu_squared": _relu_squared, "tanh": torch.tanh,
    }[name]  # fmt: skip


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


class FeedForwardConfig(Part):
    """What happens at each place by itself."""

    @abstractmethod
    def build(self, d_model: int) -> nn.Module:
        """The layer: (*batch, d_model) → (*batch, d_model)."""

    @abstractmethod
    def flops(self, d_model: int) -> float:
        """Floating-point operations of the forward pass per token: matrix products, a multiply-add as two."""

    def idle_params(self, d_model: int) -> int:
        """Parameters that any one token leaves unused."""
        return 0


class GatedConfig(FeedForwardConfig):
    """See `GatedFeedForward`."""

    d_ff: Annotated[int, Gt(0)]
    """Width of the hidden layer."""
    activation: Activation = "silu"
    """Of the gate: silu makes it SwiGLU, gelu GeGLU."""
    bias: bool = False
    """Whether the maps have biases."""

    def build(self, d_model: int) -> GatedFeedForward:
        return GatedFeedForward(d_model, self.d_ff, self.activation, self.bias)

    def flops(self, d_model: int) -> float:
        return 2.0 * 3 * d_model * self.d_ff


class PlainConfig(FeedForwardConfig):
    """See `FeedForward`."""

    d_ff: Annotated[int, Gt(0)]
    """Width of the hidden layer."""
    activation: Activation = "gelu"
    """Between the two maps."""
    bias: bool = True
    """Whether the maps have biases."""

    def build(self, d_model: int) -> FeedForward:
        return FeedForward(d_model, self.d_ff, self.activation, self.bias)

    def flops(self, d_model: int) -> float:
        return 2.0 * 2 * d_model * self.d_ff


class GatedFeedForward(nn.Module, Divided):
    """The gated feed-forward layer of Llama (SwiGLU), T5 1.1 and Gemma (GeGLU).

        y = W_down · (activation(W_gate · x) ⊙ W_up · x)

    Gate and up share one matrix, gate first, so that both are one product.

    Args:
        d_model: width of input and output.
        d_ff: width of the hidden layer.
        activation: of the gate.
        bias: whether the maps have biases.

    Source: Shazeer (2020), arXiv 2002.05202, equation 6.
    """

    def __init__(self, d_model: int, d_ff: int, activation: Activation = "silu", bias: bool = False) -> None:
        super().__init__()
        self.gate_up = Linear(d_model, (d_ff, d_ff), (Use.FF_IN, Use.FF_UP), bias)
        self.down = Linear(d_ff, d_model, Use.FF_OUT, bias)
        self.activation = activation_function(activation)

    def indivisible(self, ranks: int) -> str:
        return _uneven(self.down, ranks)

    def divide(self, index: int, ranks: int) -> Mapping[str, Cut]:
        return _by_units(self.gate_up, self.down, "gate_up", ranks)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)


class FeedForward(nn.Module, Divided):
    """Two maps with an activation between them:  y = W_down · activation(W_up · x + b_up) + b_down.

    Args:
        d_model: width of input and output.
        d_ff: width of the hidden layer.
        activation: between the maps.
        bias: whether the maps have biases.

    Source: Vaswani et al. (2017), arXiv 1706.03762, equation 2.
    """

    def __init__(self, d_model: int, d_ff: int, activation: Activation, bias: bool = True) -> None:
        super().__init__()
        self.up = Linear(d_model, d_ff, Use.FF_IN, bias)
        self.down = Linear(d_ff, d_model, Use.FF_OUT, bias)
        self.activation = activation_function(activation)

    def indivisible(self, ranks: int) -> str:
        return _uneven(self.down, ranks)

    def divide(self, index: int, ranks: int) -> Mapping[str, Cut]:
        return _by_units(self.up, self.down, "up", ranks)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(self.activation(self.up(x)))


def _uneven(down: Linear, ranks: int) -> str:
    return f"has d_ff={down.in_features}" if down.in_features % ranks else ""


def _by_units(into: Linear, down: Linear, name: str, ranks: int) -> Mapping[str, Cut]:
    """Each rank has some of the hidden units."""
    share_bias(down, ranks)
    by_unit = Cut(0, into.heights)
    cuts = {f"{name}.weight": by_unit, "down.weight": Cut(1, (down.in_features,))}
    return cuts if into.bias is None else {**cuts, f"{name}.bias": by_unit}
