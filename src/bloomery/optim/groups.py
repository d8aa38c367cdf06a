"""What each parameter is, read off the model's structure and not off its names; and the logical blocks inside fused matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from torch import nn

from bloomery.mesh.held import Held, Holding
from bloomery.nn.depth import Height, heights
from bloomery.nn.experts import ExpertLinear
from bloomery.nn.head import OutputHead
from bloomery.nn.init import Rated
from bloomery.nn.linear import Linear


class Role(Enum):
    """What a parameter is to an optimiser."""

    MATRIX = "matrix"
    """A linear map between hidden vectors."""
    EMBEDDING = "embedding"
    """A table of vectors, one per token or place; a head tied to it is the same parameter."""
    HEAD = "head"
    """The map from features to logits, where it is not tied."""
    VECTOR = "vector"
    """Anything of less than two dimensions: weights of norms, biases, gates."""


@dataclass(frozen=True, eq=False)
class Member:
    """A trainable parameter, its canonical name, its role, and the heights of the matrices stacked in its rows.

    `held` is what this rank holds of it, where ranks share it: `parameter` then has these numbers only, while `blocks` are those of the whole.
    `narrow` is, for a model under µP, base width over width, and 1 for any other. `height` is how far up in the model it stands, and
    `layer_rate` the factor on its rate on that account. Where it has more than two dimensions, all but the last count as rows: experts lie
    one above the other.
    """

    name: str
    parameter: nn.Parameter
    role: Role
    blocks: tuple[int, ...]
    height: Height
    narrow: float = 1.0
    held: Held | None = None
    layer_rate: float = 1.0

    @property
    def rate(self) -> float:
        """The factor on its learning rate under Adam that its model's initialisation asks for."""
        return self.narrow if self.role is Role.MATRIX else 1.0


def members(model: nn.Module) -> list[Member]:
    """Every trainable parameter once, in the model's order.

    A parameter of fewer than two dimensions is a vector; one of an `nn.Embedding` is an embedding; any other of an `OutputHead` belongs to
    the head; every other is a matrix.
    """
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters(recurse=False)}
    heads = {id(p) for module in model.modules() if isinstance(module, OutputHead) for p in module.parameters()}
    blocks = {id(module.weight): module.heights for module in model.modules() if isinstance(module, Linear)}
    blocks |= {id(stack.weight): stack.heights * len(stack.weight) for stack in model.modules() if isinstance(stack, ExpertLinear)}

    narrow = {id(p): module.hidden_rate for module in model.modules() if isinstance(module, Rated) for p in module.parameters()}
    height = heights(model)

    def role(parameter: nn.Parameter) -> Role:
        if parameter.ndim < 2:
            return Role.VECTOR
        if id(parameter) in embeddings:
            return Role.EMBEDDING
        return Role.HEAD if id(parameter) in heads else Role.MATRIX

    def member(name: str, parameter: nn.Parameter) -> Member:
        stacked = blocks.get(id(parameter), (parameter.shape[:-1].numel(),))
        return Member(name, parameter, role(parameter), stacked, height[name], narrow.get(id(parameter), 1.0))

    return [member(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def members_held(everything: Sequence[Member], holding: Holding) -> list[Member]:
    """Those of the whole model's members of which this rank holds something, with what it holds."""
    mine = [(member, holding.parameters[member.name]) for member in everything if member.name in holding.parameters]
    return [replace(member, parameter=held.local, held=held) for member, held in mine]
