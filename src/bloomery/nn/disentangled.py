"""Disentangled attention, as in DeBERTa: what a token is and how far away it is count apart, and distances have vectors of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.nn.attention import divisors, near
from bloomery.nn.cache import Cache
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.nn.mixer import Looks, MixerConfig, SequenceMixer, one_per_key
from bloomery.nn.norms import NoNormConfig, NormConfig
from bloomery.nn.part import Shared

Terms = Literal["both", "content_to_position", "position_to_content"]


class DisentangledConfig(MixerConfig):
    """See `DisentangledAttention`."""

    reads_forward: ClassVar[bool] = False

    n_heads: Annotated[int, Gt(0)]
    """Heads."""
    terms: Terms = "both"
    """Which products with positions are added to that of contents."""
    n_buckets: Annotated[int, Ge(4)] | None = None
    """Distances in each direction that are told apart: one by one up to the half of them, then by order of size. None tells all apart."""
    max_distance: Annotated[int, Ge(2)] = 512
    """From about so many places on, all distances are alike."""
    shared_maps: bool = False
    """Whether the vectors of distances become keys and queries by the maps of contents."""
    table_norm: NormConfig = NoNormConfig()
    """Of the vectors of distances."""

    def check(self) -> None:
        if self.n_buckets is not None and self.n_buckets % 2:
            raise self.refuse("n_buckets", f"is odd, and half of them hold one distance each; {self.n_buckets + 1} would do")
        if self.n_buckets is not None and self.max_distance <= self.n_buckets // 2 + 1:
            rule = f"is no farther than the n_buckets/2 = {self.n_buckets // 2} distances that have buckets of their own"
            raise self.refuse("max_distance", f"{rule}; {2 * self.n_buckets} would do, or n_buckets=None")

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        if d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={d_model}; {near(self.n_heads, divisors(d_model))} would")

    @property
    def span(self) -> int:
        """Distances in each direction that are told apart."""
        return self.n_buckets or self.max_distance

    @property
    def n_terms(self) -> int:
        """Products with positions."""
        return 2 if self.terms == "both" else 1

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> DisentangledAttention:
        distances = shared.get(("distances", self.span, self.table_norm), lambda: Distances(self.span, d_model, self.table_norm))
        return DisentangledAttention(d_model, self, distances)

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        """As in `MixerConfig`; the products of the map with the table are left out, since they are made once for a whole batch."""
        return 2.0 * 4 * d_model**2 + 4.0 * d_model * seq_len + self.n_terms * 2.0 * d_model * 2 * self.span


class Distances(nn.Module):
    """A vector for each distance that is told apart, from −span to span − 1, normed; the layers of a model share them.

    Args:
        span: distances in each direction.
        d_model: features.
        norm: of the vectors.
    """

    def __init__(self, span: int, d_model: int, norm: NormConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(2 * span, d_model)
        self.norm = norm.build(d_model)

    def forward(self) -> Float[Tensor, "distances d_model"]:
        return self.norm(self.table.weight)


class DisentangledAttention(SequenceMixer):
    """Attention whose scores are sums of three products: of contents, of a content with a distance, and of a distance with a content.

        a_ij = (q_i · k_j  +  q_i · κ_δ(i,j)  +  k_j · ρ_δ(i,j)) / √(3 · head_dim),   κ_δ = W_κ d_δ + b_κ,   ρ_δ = W_ρ d_δ + b_ρ

    with a vector d_δ for each bucket δ(i, j) of i − j. The product with κ is called content-to-position, that with ρ position-to-content;
    a model may have one of them only, and √(2 · head_dim) then.

    Parameters: qkv and out as in `Attention`, with biases; distances, which the first layer names; and positions, W_ρ above W_κ, unless these
    are the W_q and W_k of contents.

    Args:
        d_model: width of input and output.
        config: what it is made of.
        distances: their vectors; layers share them.

    Source: He et al. (2020), arXiv 2006.03654, equation 4, and the published code, from which these come: the third product has δ(i, j) where
    the paper has δ(j, i); there are biases; and from version 2 on buckets and shared maps.
    """

    def __init__(self, d_model: int, config: DisentangledConfig, distances: Distances) -> None:
        super().__init__()
        self.config, self.distances = config, distances
        self.qkv = Linear(d_model, (d_model, d_model, d_model), (Use.QUERY, Use.KEY, Use.VALUE), bias=True)
        self.out = Linear(d_model, d_model, Use.MIXER_OUT, bias=True)
        first, last = {"both": (0, 2), "position_to_content": (0, 1), "content_to_position": (1, 2)}[config.terms]
        self.products: tuple[Product, ...] = (position_to_content, content_to_position)[first:last]
        uses = (Use.QUERY, Use.KEY)[first:last]
        self.positions = None if config.shared_maps else Linear(d_model, (d_model,) * len(uses), uses, bias=True)
        self.rows = slice(first * d_model, last * d_model) if config.shared_maps else slice(None)
        self.scale = 1 / sqrt(d_model // config.n_heads * (1 + config.n_terms))

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        assert cache is None, "it reads both ways, and cannot go on token by token"
        queries, keys, values = self.heads(self.qkv(x)).chunk(3, dim=1)  # (batch, n_heads, time, head_dim) each
        mixed = self.attend(queries, keys, values, layout)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def attend(
        self, queries: Float[Tensor, "batch heads time head_dim"], keys: Float[Tensor, "batch heads time head_dim"],
        values: Float[Tensor, "batch heads time d_value"], layout: SequenceLayout,
    ) -> Float[Tensor, "batch heads time d_value"]:
        """The weighted sums of the values that each query sees."""
        view, span = layout.view, self.config.span
        which = (distance_buckets(-view.distances, self.config) + span).clamp(0, 2 * span - 1).expand(*queries.shape[:3], -1)
        vectors = self.position_vectors().chunk(len(self.products))
        scores = reduce(torch.add, (product(queries, keys, of, which) for product, of in zip(self.products, vectors, strict=True))) * self.scale
        if view.mask is not None:
            scores = scores.masked_fill(~view.mask, -torch.inf)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=scores, scale=self.scale)

    def looks(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Looks | None:
        queries, keys, _ = self.heads(self.qkv(x)).chunk(3, dim=1)
        return Looks(self.attend(queries, keys, one_per_key(keys.transpose(1, 2)).transpose(1, 2), layout), layout.view.seen)

    def position_vectors(self) -> Float[Tensor, "heads distances head_dim"]:
        """ρ and κ of each head, or the one of them that there is: heads of the first, then heads of the second."""
        maps = self.qkv if self.positions is None else self.positions
        assert maps.bias is not None
        return self.heads(F.linear(self.distances(), maps.matrix[self.rows], maps.bias[self.rows]))

    def heads(self, x: Float[Tensor, "*batch time features"]) -> Float[Tensor, "*batch heads time head_dim"]:
        """Splits features into heads, for as many times as there are d_model features."""
        return x.unflatten(-1, (-1, self.out.in_features // self.config.n_heads)).transpose(-2, -3)


Product = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(queries, keys (batch, heads, time, head_dim), vectors of distances (heads, distances, head_dim), which distance each pair of places has
(batch, heads, time, time)) → what is added to the score of each pair."""


def content_to_position(queries: Tensor, keys: Tensor, vectors: Tensor, which: Tensor) -> Tensor:
    """q_i · κ_δ(i,j)."""
    return (queries @ vectors.mT).gather(-1, which)


def position_to_content(queries: Tensor, keys: Tensor, vectors: Tensor, which: Tensor) -> Tensor:
    """k_j · ρ_δ(i,j)."""
    return (keys @ vectors.mT).gather(-1, which.mT).mT


def distance_buckets(distances: Int[Tensor, "*shape"], config: DisentangledConfig) -> Int[Tensor, "*shape"]:
    """The bucket of each distance (place of the query minus place of the key), with its sign.

    Up to n_buckets/2 = m each has its own; from there on  m + ⌈(m − 1) · log(d / m) / log((max_distance − 1) / m)⌉, which reaches n_buckets − 1
    at max_distance − 1.
    """
    if config.n_buckets is None:
        return distances
    middle, size = config.n_buckets // 2, distances.abs()
    # In float32 and in the order of the published code: where it rounds decides on which side of an edge a distance falls.
    octaves = torch.log(size.clamp(min=middle - 1) / middle) / torch.log(torch.tensor((config.max_distance - 1) / middle))
    far = torch.ceil(octaves * (middle - 1)) + middle
    return torch.where(size <= middle, distances, (far * distances.sign()).long())
