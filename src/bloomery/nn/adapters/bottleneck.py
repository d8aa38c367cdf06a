"""`Bottleneck`: small layers behind the maps that write to the residual stream."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, ClassVar

from annotated_types import Gt
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters.adapter import Adapter
from bloomery.nn.adapters.shells import AdaptedLinear, Change, Shell, shell_of
from bloomery.nn.adapters.targets import chosen
from bloomery.nn.feedforward import Activation, activation_function
from bloomery.nn.init import Draw
from bloomery.nn.linear import Linear, Use


class Bottleneck(Adapter):
    """y ← y + W_up · activation(W_down · y + b_down) + b_up,  where W_up and b_up start at 0, behind linear maps.

    Source: Houlsby et al. (2019), arXiv 1902.00751, section 2.1, behind mixer and feed-forward layer; behind the latter alone (`targets=
    ("ff_out",)`) as in Pfeiffer et al. (2021), arXiv 2005.00247. Departure: it starts as the identity exactly, and not nearly.
    """

    parts_of_rows: ClassVar[bool] = True

    width: Annotated[int, Gt(0)] = 16
    """Of the hidden layer."""
    activation: Activation = "gelu"
    """Of the hidden layer."""
    targets: tuple[str, ...] = Field(default=("mixer_out", "ff_out"), min_length=1)
    """Behind which maps it stands, by words of their canonical paths."""

    @property
    def picks_layers(self) -> bool:
        return any("blocks" in target.split(".") for target in self.targets)

    def add(self, model: nn.Module) -> None:
        for path in chosen(model, self.targets):
            shell = shell_of(model, path)
            if not isinstance(shell, AdaptedLinear):
                raise ConfigError(f"{path} is no linear map within the model, behind which a Bottleneck could stand; take it out of targets")
            shell.adapters[self.name] = Narrow(self.name, shell.out_features, self.width, self.activation)


class Narrow(Change):
    """See `Bottleneck`. Parameters: down.{weight, bias}, up.{weight, bias}."""

    def __init__(self, by: str, d_model: int, width: int, activation: Activation) -> None:
        super().__init__(by)
        self.down, self.up = Linear(d_model, width, Use.OTHER, bias=True), Linear(width, d_model, Use.OTHER, bias=True)
        self.activation = activation_function(activation)

    def initialise(self, draw: Draw) -> None:
        """The way in is uniform within ±1/√d_model, all else 0."""
        bound = 1 / sqrt(self.down.in_features)
        draw.copy(self.down.weight, draw.uniform(self.down.weight, -bound, bound))
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            draw.fill(parameter, 0.0)

    def forward(self, x: Float[Tensor, "*batch columns"], y: Float[Tensor, "*batch rows"], shell: Shell) -> Float[Tensor, "*batch rows"]:
        return y + self.up(self.activation(self.down(y)))
