"""Relative positions in buckets, as in T5: a learnt number per head for near distances one by one, and for far ones by their order of size."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.nn.init import Draw, Initialised
from bloomery.nn.layout import View
from bloomery.nn.positions import PositionsConfig, ScoreBias


class BucketsConfig(PositionsConfig):
    """See `Buckets`."""

    n_buckets: Annotated[int, Ge(4)] = 32
    """Numbers per head; even where they tell both directions apart."""
    max_distance: Annotated[int, Ge(2)] = 128
    """From so many places on, all distances are one bucket."""
    told_apart: Literal["past", "both"] = "past"
    """Whether all buckets are for what came before (a decoder), or half of them for what comes after (an encoder)."""

    def check(self) -> None:
        if self.told_apart == "both" and self.n_buckets % 2:
            raise self.refuse("n_buckets", f"is odd, and told_apart='both' has half of them for each direction; {self.n_buckets + 1} would do")
        if self.max_distance <= self.exact:
            rule = f"is no farther than the {self.exact} distances that n_buckets={self.n_buckets} holds one by one"
            raise self.refuse("max_distance", f"{rule}; {4 * self.exact} would do")

    @property
    def exact(self) -> int:
        """Distances in each direction that have a bucket of their own."""
        return self.n_buckets // (4 if self.told_apart == "both" else 2)

    def bias(self, n_heads: int) -> Buckets:
        return Buckets(self, n_heads)


class Buckets(ScoreBias, Initialised):
    """A learnt number for each head and bucket of distances; the layers of a model share them.

        bias_h(i, j) = table[bucket(j − i), h]

    With n buckets for a direction, distances d < n/2 have one each, and those from there on share the others, each wider than the one
    before:  n/2 + ⌊n/2 · log(d / (n/2)) / log(max_distance / (n/2))⌋, and the last one holds all from max_distance on. Where only the
    past is told apart, all that comes after is in bucket 0 with the token itself.

    Args:
        config: how distances are shared out.
        n_heads: query heads.

    Source: Raffel et al. (2020), arXiv 1910.10683, section 2.1, and the published code. Departure: the table starts at 0, as other biases do.
    """

    def __init__(self, config: BucketsConfig, n_heads: int) -> None:
        super().__init__()
        self.table = nn.Embedding(config.n_buckets, n_heads)
        self.config = config

    def initialise(self, draw: Draw) -> None:
        """All distances are alike at first."""
        draw.fill(self.table.weight, 0.0)

    def forward(self, view: View) -> Float[Tensor, "#batch heads time past"]:
        return self.table(buckets(view.distances[:, 0], self.config)).permute(0, 3, 1, 2)  # (batch, time, past, heads) before


def buckets(distances: Int[Tensor, "*shape"], config: BucketsConfig) -> Int[Tensor, "*shape"]:
    """The bucket of each distance (place of the key minus place of the query), from 0 to n_buckets − 1."""
    n, exact = config.n_buckets, config.exact
    if config.told_apart == "both":
        n //= 2
        first, distances = (distances > 0) * n, distances.abs()
    else:
        first, distances = 0, -distances.clamp(max=0)
    # A single expression in float32, in the order of the published code: where it rounds decides on which side of an edge a distance falls.
    far = exact + (torch.log(distances.float() / exact) / math.log(config.max_distance / exact) * (n - exact)).long()
    return first + torch.where(distances < exact, distances, far.clamp(max=n - 1))
