"""Fixup: residual branches that need no norms, by how they start and by a factor and biases of their own."""

from __future__ import annotations

from math import sqrt

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.block import Ends, Join, Placement, around
from bloomery.nn.init import Draw, Initialised, Stack, WeightInit
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.linear import Use
from bloomery.nn.norms import LayoutNorm, NoNormConfig, NormConfig


class FixupInit(WeightInit):
    """He's initialisation in which the branches are silent at first and change the stream by as much at any depth.

        last matrix of a branch, head: 0;   every other one: √(2 / fan_in) · L^(−1/(2m − 2)),  m = 2 matrices in a row per branch

    for L = 2·n_layers branches. It goes with the placement `Fixup()`.

    Source: Zhang et al. (2019), arXiv 1901.09321, section 3. Departures: attention counts as m = 2 (values, then the output), its queries and
    keys as its values; a tied head is the embedding table and cannot start at 0.
    """

    embedding: float = Field(default=0.02, gt=0)
    """Standard deviation of the embedding table."""

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        if use is Use.EMBEDDING:
            return self.embedding
        if use.residual or use is Use.HEAD:
            return 0.0
        return self.matrix_std(fan_in) * (2 * n_layers) ** -0.5

    def embedding_std(self, d_model: int) -> float:
        return self.embedding

    def matrix_std(self, fan_in: int) -> float:
        """Before it is scaled by depth."""
        return sqrt(2 / fan_in)


class Fixup(Placement):
    """x + scale · f(x + before) + after, three learnt numbers per branch in the place of norms; for a model with `norm=NoNormConfig()`.

    Biases between the matrices of a branch are those of its feed-forward layer, where it has them.

    Source: Zhang et al. (2019), arXiv 1901.09321, section 3, rule 3; it goes with `FixupInit`.
    """

    def norm(self, norm: NormConfig, d_model: int) -> ScaledBranch:
        return ScaledBranch()

    def join(self) -> Join:
        return around

    def check_model(self, model: Stack) -> None:
        super().check_model(model)
        if not isinstance(model.norm, NoNormConfig):
            raise ConfigError(f"placement=Fixup() has no room for norm={model.norm}; set norm=NoNormConfig(), or take PreNorm()")


class ScaledBranch(nn.Module, Initialised, LayoutNorm):
    """The numbers around one branch: (x + before) before it, (scale · y + after) behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.bias_before, self.scale, self.bias_after = (nn.Parameter(torch.empty(1)) for _ in range(3))

    def at(self, layout: SequenceLayout) -> Ends:
        return Ends(self.before, self.after)

    def before(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """What the branch reads."""
        return x + self.bias_before

    def after(self, y: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """What is added to the stream."""
        return self.scale * y + self.bias_after

    def initialise(self, draw: Draw) -> None:
        """The factor starts at 1, the biases at 0."""
        draw.fill(self.scale, 1.0)
        draw.fill(self.bias_before, 0.0)
        draw.fill(self.bias_after, 0.0)
