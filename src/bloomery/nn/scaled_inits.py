"""Initialisations whose scale follows from the shape of a matrix and the depth of the model, each by its published formula."""

from __future__ import annotations

from math import sqrt

from pydantic import Field

from bloomery.nn.block import PostNorm
from bloomery.nn.init import WeightInit
from bloomery.nn.linear import Use

BRANCH_USES = (Use.VALUE, Use.MIXER_OUT, Use.FF_IN, Use.FF_UP, Use.FF_OUT)
"""The matrices through which what a branch writes flows; queries and keys only say whence."""


class XavierInit(WeightInit):
    """Standard deviation gain·√(2 / (fan_in + fan_out)), which keeps the scale of activations forwards and of gradients backwards.

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks", equation 12. Departures:
    normal and not uniform, of the same variance; queries, keys and values count as three matrices though they are stored as one.
    """

    gain: float = Field(default=1.0, gt=0)
    """Factor on all matrices."""
    embedding: float = Field(default=0.02, gt=0)
    """Standard deviation of the embedding table."""

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        if use is Use.EMBEDDING:
            return self.embedding_std(fan_in)
        return self.gain * sqrt(2 / (fan_in + fan_out))

    def embedding_std(self, d_model: int) -> float:
        return self.embedding

    def matrix_std(self, fan_in: int) -> float:
        """For a square one."""
        return self.gain / sqrt(fan_in)


class HeInit(WeightInit):
    """Standard deviation √(2 / fan_in), which keeps the scale of activations through rectifiers.

    Source: He et al. (2015), arXiv 1502.01852, equation 10.
    """

    embedding: float = Field(default=0.02, gt=0)
    """Standard deviation of the embedding table."""

    def embedding_std(self, d_model: int) -> float:
        return self.embedding

    def matrix_std(self, fan_in: int) -> float:
        return sqrt(2 / fan_in)

    def residual_std(self, fan_in: int, n_layers: int) -> float:
        return self.matrix_std(fan_in)


class SmallInit(WeightInit):
    """Standard deviation √(2 / (5·d_model)) for every matrix: Xavier's of a feed-forward layer four times as wide as the model.

    Source: Nguyen and Salazar (2019), arXiv 1910.05895, section 2.2.
    """

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        return self.matrix_std(fan_out if use.residual else fan_in)

    def embedding_std(self, d_model: int) -> float:
        return self.matrix_std(d_model)

    def matrix_std(self, fan_in: int) -> float:
        """For a matrix that reads or writes the residual stream of a model so wide."""
        return sqrt(2 / (5 * fan_in))


class TFixupInit(WeightInit):
    """Xavier's, with values, outputs and feed-forward matrices scaled by 0.67·N^(−1/4), so that no norms and no warm-up are needed.

    The embedding table has the standard deviation d_model^(−1/2) · (9N)^(−1/4). For N layers with `norm=NoNormConfig()`.

    Source: Huang et al. (2020), "Improving Transformer Optimization Through Better Initialization" (ICML), section 3.2. Departures: a
    model of one stack has the factors of the paper's encoder, whatever it sees; normal and not uniform.
    """

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        if use is Use.EMBEDDING:
            return (9 * n_layers) ** -0.25 * self.embedding_std(fan_in)
        return (0.67 * n_layers**-0.25 if use in BRANCH_USES else 1.0) * sqrt(2 / (fan_in + fan_out))

    def embedding_std(self, d_model: int) -> float:
        """Before it is scaled by depth."""
        return d_model**-0.5

    def matrix_std(self, fan_in: int) -> float:
        """For a square one, before it is scaled by depth."""
        return 1 / sqrt(fan_in)


class DeepNormInit(XavierInit):
    """Xavier's, with values, outputs and feed-forward matrices scaled by β = (8N)^(−1/4); for `PostNorm(alpha=(2N)^(1/4))`, N layers.

    Together they bound how far an update moves the model's output, at any depth. `deep_norm(n_layers)` gives both.

    Source: Wang et al. (2022), arXiv 2203.00555, figure 2, the columns of encoder-only and decoder-only models.
    """

    def std_of(self, use: Use, fan_in: int, fan_out: int, n_layers: int) -> float:
        beta = (8 * n_layers) ** -0.25 if use in BRANCH_USES else 1.0
        return beta * super().std_of(use, fan_in, fan_out, n_layers)

    def residual_factor(self, n_layers: int) -> float:
        return (2 * n_layers) ** 0.25


def deep_norm(n_layers: int) -> tuple[PostNorm, DeepNormInit]:
    """DeepNorm's two halves for a model of one stack: the placement of the norms, and the initialisation.

    Example:
        >>> placement, init = deep_norm(n_layers=100)
        >>> TransformerConfig(n_layers=100, placement=placement, init=init, norm=LayerNormConfig(), …)
    """
    init = DeepNormInit()
    return PostNorm(alpha=init.residual_factor(n_layers)), init
