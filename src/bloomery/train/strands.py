"""What each parameter is to whoever looks on: in which layer it is, and which matrices, of which role, lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from bloomery.nn.experts import ExpertLinear
from bloomery.nn.linear import Linear
from bloomery.optim.groups import members
from bloomery.train.observe import layers


@dataclass(frozen=True)
class Strand:
    """A parameter's place and what lies in it.

    Attributes:
        place: the layer's name, or `embedding`, `head`, … outside of layers.
        roles: of the matrices that lie in it one above the other; "" where the place says it all.
        heights: rows of each.
        dim: along which they lie.
    """

    place: str
    roles: tuple[str, ...] = ("",)
    heights: tuple[int, ...] | None = None
    dim: int = 0

    def split(self, whole: Tensor) -> Sequence[Tensor]:
        """The matrices in the parameter, or in what has its shape."""
        return (whole,) if self.heights is None else whole.split(self.heights, self.dim)


def strands(model: nn.Module) -> dict[nn.Parameter, Strand]:
    """Every parameter's; one that several layers share is the first one's."""
    found: dict[nn.Parameter, Strand] = {}
    for place, block in layers(model).items():
        for module in block.modules():
            for name, parameter in module.named_parameters(recurse=False):
                found.setdefault(parameter, _in_layer(place, module, name, parameter))
    for member in members(model):
        found.setdefault(member.parameter, Strand(member.role.value))
    return found


def _in_layer(place: str, module: nn.Module, name: str, parameter: nn.Parameter) -> Strand:
    if isinstance(module, Linear | ExpertLinear) and name == "weight":
        return Strand(place, tuple(use.value for use in module.uses), module.heights, parameter.ndim - 2)
    if parameter.ndim < 2:
        return Strand(place, ("vector",))
    return Strand(place, ("embedding" if isinstance(module, nn.Embedding) else "other",))
