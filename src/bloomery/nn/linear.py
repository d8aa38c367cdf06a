"""`Linear`: a linear map that knows what its matrices are for, which initialisation, optimisers and name maps ask."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""x (*batch, d_in), W (d_out, d_in), b (d_out,) or None → W·x + b (*batch, d_out)."""


class Use(Enum):
    """What a matrix is for."""

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    MIXER_OUT = "mixer_out"
    """From a mixer back to the residual stream."""
    FF_IN = "ff_in"
    """Into a feed-forward layer: its gate, or its only way in."""
    FF_UP = "ff_up"
    """Into a feed-forward layer beside a gate."""
    FF_OUT = "ff_out"
    """From a feed-forward layer back to the residual stream."""
    EMBEDDING = "embedding"
    """A table of vectors, one per token or place."""
    HEAD = "head"
    """From features to logits."""
    OTHER = "other"
    """Anything else: a router, a gate, a projection within a mixer."""

    @property
    def residual(self) -> bool:
        """Whether it writes to the residual stream."""
        return self in (Use.MIXER_OUT, Use.FF_OUT)


class Linear(nn.Linear):
    """y = W·x (+ b), where the rows of W may be several matrices, one above the other, so that one product does for all.

    Args:
        d_in: width of x.
        heights: rows of each matrix in W.
        uses: what each is for.
        bias: whether there is a b, which starts at 0.

    Attributes:
        product: how it is computed.
    """

    product: Product = staticmethod(F.linear)

    def __init__(self, d_in: int, heights: int | tuple[int, ...], uses: Use | tuple[Use, ...], bias: bool = False) -> None:
        self.heights = (heights,) if isinstance(heights, int) else heights
        self.uses = (uses,) if isinstance(uses, Use) else uses
        assert len(self.heights) == len(self.uses)
        super().__init__(d_in, sum(self.heights), bias=bias)

    @property
    def matrix(self) -> Float[Tensor, "rows columns"]:
        """W, for whoever needs more of it than products; with what adapters add to it."""
        return self.weight

    def forward(self, input: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return self.product(input, self.weight, self.bias)
