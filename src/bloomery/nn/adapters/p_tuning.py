"""`PTuning`: virtual tokens among the text, whose vectors a small network makes of each other."""

from __future__ import annotations

from math import sqrt
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.nn.adapters.prompts import Prompting, VirtualTokens
from bloomery.nn.init import Draw
from bloomery.nn.linear import Linear, Use


class PTuning(Prompting):
    """v = W₂ · relu(W₁ · BiLSTM(e) + b₁) + b₂  for the vectors e of all virtual tokens, which stand in a template among the text.

    Source: Liu et al. (2021), arXiv 2103.10385, section 3: the prompt encoder, and the template {[P₀…ᵢ], x, [Pᵢ₊₁…ₘ], y}. The network is that
    of its published code: two layers of LSTM with d/2 units in each direction.
    """

    template: tuple[Annotated[int, Ge(0)], ...] = ()
    """Before which token of a document each virtual one stands, counted from 0 and in order: (0, 0, 5) puts two before the text and one
    before its sixth token. One that is past the end of a document is not there. None given has all before the text."""
    units: Annotated[int, Gt(0)] | None = None
    """Of the LSTM in each direction; None is half of the width of embeddings."""

    def check(self) -> None:
        super().check()
        if self.template and (len(self.template) != self.n_tokens or list(self.template) != sorted(self.template)):
            raise self.refuse("template", f"does not place n_tokens={self.n_tokens} in order; give it so many places, the first ones first")

    @property
    def places(self) -> tuple[int, ...]:
        return self.template or super().places

    def vectors(self, width: int) -> PromptEncoder:
        return PromptEncoder(self.name, self.n_tokens, width, self.units or width // 2)


class PromptEncoder(VirtualTokens):
    """See `PTuning`. Parameters: weight, (n_tokens, width); lstm.…; into.{weight, bias}, out.{weight, bias}."""

    def __init__(self, by: str, n_tokens: int, width: int, units: int) -> None:
        super().__init__(by)
        self.weight, self.lstm = nn.Parameter(torch.empty(n_tokens, width)), BiLSTM(width, units)
        self.into, self.out = Linear(2 * units, 2 * units, Use.OTHER, bias=True), Linear(2 * units, width, Use.OTHER, bias=True)

    def initialise(self, draw: Draw) -> None:
        """The vectors are normal, the network uniform, as torch has it."""
        draw.normal(self.weight, 1.0)
        for parameter in self.lstm.parameters():
            bound = 1 / sqrt(self.lstm.units)
            draw.copy(parameter, draw.uniform(parameter, -bound, bound))
        for linear in (self.into, self.out):
            bound = 1 / sqrt(linear.in_features)
            for parameter in (linear.weight, linear.bias):
                draw.copy(parameter, draw.uniform(parameter, -bound, bound))

    def vectors(self) -> Float[Tensor, "n width"]:
        return self.out(torch.relu(self.into(self.lstm(self.weight[None])[0])))


class BiLSTM(nn.Module):
    """Two layers of LSTM that read in both directions; parameters are named as those of torch's own, which keeps copies of them that do not
    survive being divided among ranks."""

    def __init__(self, width: int, units: int, layers: int = 2) -> None:
        super().__init__()
        self.units, self.layers = units, layers
        for layer in range(layers):
            for end in ("", "_reverse"):
                wide = width if layer == 0 else 2 * units
                shapes = {"weight_ih": (4 * units, wide), "weight_hh": (4 * units, units), "bias_ih": (4 * units,), "bias_hh": (4 * units,)}
                for name, shape in shapes.items():
                    self.register_parameter(f"{name}_l{layer}{end}", nn.Parameter(torch.empty(shape)))

    def forward(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time both"]:
        """Both directions' states, one behind the other."""
        state = x.new_zeros(2 * self.layers, x.shape[0], self.units)
        told: list[Tensor] = list(self.parameters())
        return torch.lstm(x, (state, state), told, True, self.layers, 0.0, False, True, True)[0]
