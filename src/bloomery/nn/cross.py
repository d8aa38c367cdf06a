"""Cross-attention: a decoder's tokens look things up in what an encoder made of a passage. As a value, a module, a block and a cache."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.attention import divisors, near
from bloomery.nn.block import Block, Join, kept
from bloomery.nn.cache import Cache, Make
from bloomery.nn.layout import SequenceLayout, View
from bloomery.nn.linear import Linear, Use
from bloomery.nn.mixer import SequenceMixer
from bloomery.nn.norms import at
from bloomery.nn.part import Part
from bloomery.nn.seen import Seen
from bloomery.nn.slots import Slots


@dataclass(frozen=True, eq=False)
class Memory:
    """What an encoder made of a passage.

    Attributes:
        features: (batch, source_time, d_model).
        view: which of them each token of the decoder sees; with a cache, which the row's one document sees (one query per row).
    """

    features: Float[Tensor, "batch source_time d_model"]
    view: View


class CrossAttentionConfig(Part):
    """See `CrossAttention`."""

    n_heads: Annotated[int, Gt(0)]
    """Query heads."""
    n_kv_heads: int = Field(gt=0, default_factory=lambda known: known["n_heads"])
    """Key-value heads, a divisor of n_heads."""
    head_dim: Annotated[int, Gt(0)] | None = None
    """Features per head; None is d_model / n_heads."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases."""
    out_bias: bool = False
    """Whether the output has a bias."""
    scale: Annotated[float, Gt(0)] | None = None
    """Factor on the scores; None is 1/√head_dim."""

    def check(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise self.refuse("n_kv_heads", f"does not divide n_heads={self.n_heads}; {near(self.n_kv_heads, divisors(self.n_heads))} would")

    def check_model(self, d_model: int) -> None:
        """Refuses a model that it does not fit; called when the model's config is built."""
        if self.head_dim is None and d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={d_model}; {near(self.n_heads, divisors(d_model))} would, or a head_dim")

    def width(self, d_model: int) -> int:
        """Features per head."""
        return self.head_dim or d_model // self.n_heads

    def build(self, d_model: int) -> CrossAttention:
        return CrossAttention(d_model, self)

    def flops(self, d_model: int, source_len: int | float) -> float:
        """Floating-point operations of the forward pass per token of the decoder, for a passage of `source_len` tokens and a text as long."""
        width = self.width(d_model)
        return 2.0 * d_model * width * 2 * (self.n_heads + self.n_kv_heads) + 4.0 * self.n_heads * width * source_len


LookedUp = tuple[
    Float[Tensor, "batch source heads head_dim"], Float[Tensor, "batch source heads head_dim"], Bool[Tensor, "batch 1 #time source"] | None
]
"""Keys and values of a passage, and the mask: True where a token sees one; None where each sees all."""


class PassageCache(Cache):
    """What a decoder's layer remembers: its own past, and the keys and values of the passage, which are made once.

    Args:
        past: of the layer's mixer.
        passage: None at first; its mask is that of the row's one document, for a single query.
    """

    def __init__(self, past: Cache, passage: LookedUp | None = None) -> None:
        self.past, self.passage = past, passage

    def other(self, batch: int, make: Make) -> PassageCache:
        return PassageCache(self.past.other(batch, make))

    @property
    def slots(self) -> tuple[Slots, ...]:
        return self.past.slots

    def select(self, rows: Int[Tensor, " kept"]) -> PassageCache:
        past = self.past.select(rows)
        if self.passage is None:
            return PassageCache(past)
        keys, values, mask = self.passage
        return PassageCache(past, (keys[rows], values[rows], None if mask is None else mask[rows]))


class CrossAttention(nn.Module):
    """Attention whose keys and values come from a passage.

        y = W_out · concat_h softmax(scale · W_q,h x · (W_k,g(h) m)ᵀ) · W_v,g(h) m

    A token that sees nothing of the passage (padding, mostly) takes nothing from it.

    Args:
        d_model: width of input, output and memory.
        config: what it is made of.

    Source: Vaswani et al. (2017), arXiv 1706.03762, section 3.2.3.
    """

    def __init__(self, d_model: int, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.head_dim = config.width(d_model)
        queries, keys = config.n_heads * self.head_dim, config.n_kv_heads * self.head_dim
        self.query = Linear(d_model, queries, Use.QUERY, config.qkv_bias)
        self.kv = Linear(d_model, (keys, keys), (Use.KEY, Use.VALUE), config.qkv_bias)
        self.out = Linear(queries, d_model, Use.MIXER_OUT, config.out_bias)
        self.scale, self.grouped = config.scale or 1 / sqrt(self.head_dim), config.n_kv_heads < config.n_heads

    def forward(
        self, x: Float[Tensor, "batch time d_model"], memory: Memory | None, cache: PassageCache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """Looks things up.

        Args:
            x: (batch, time, d_model).
            memory: the passage; None where the cache has it.
            cache: keeps the keys and values of `memory`, in place of those it had, and has them ready when there is none.

        Returns:
            (batch, time, d_model).
        """
        queries = self.query(x).unflatten(-1, (-1, self.head_dim))  # (batch, time, n_heads, head_dim)
        keys, values, mask = self.looked_up(memory, cache)
        sees = None if mask is None else mask.any(-1, keepdim=True)  # (batch, 1, time or 1, 1)
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), scale=self.scale, enable_gqa=self.grouped,
            attn_mask=None if mask is None or sees is None else mask | ~sees,  # no row is empty, whose softmax some kernels make NaN
        )
        if sees is not None:
            mixed = mixed.masked_fill(~sees, 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def looked_up(self, memory: Memory | None, cache: PassageCache | None) -> LookedUp:
        """Keys, values and mask of the passage."""
        if memory is None:
            if cache is None or cache.passage is None:
                raise ConfigError("a decoder of an encoder–decoder has no passage to read; give one, with a cache at the first call")
            return cache.passage
        keys, values = self.kv(memory.features).unflatten(-1, (2, -1, self.head_dim)).unbind(2)
        if cache is not None:
            cache.passage = keys, values, memory.view.mask
        return keys, values, memory.view.mask


class CrossBlock(Block):
    """One layer of a decoder that reads a passage: a mixer, cross-attention, a feed-forward layer; each joined alike.

    Args:
        join: how a branch is joined to the residual stream.
        mixer_norm, cross_norm, ff_norm: of the three branches.
        mixer: among the decoder's own tokens.
        cross: from these to the passage.
        ff: at each place by itself.
    """

    def __init__(
        self, join: Join, mixer_norm: nn.Module, mixer: SequenceMixer, cross_norm: nn.Module, cross: CrossAttention, ff_norm: nn.Module,
        ff: nn.Module,
    ) -> None:
        super().__init__()
        self.join = join
        self.mixer_norm, self.mixer, self.cross_norm, self.cross, self.ff_norm, self.ff = mixer_norm, mixer, cross_norm, cross, ff_norm, ff

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        assert cache is None or isinstance(cache, PassageCache)
        x = self.join(x, at(self.mixer_norm, layout), lambda h: self.mixer(h, layout, None if cache is None else cache.past))
        x = self.join(x, at(self.cross_norm, layout), lambda h: self.cross(h, memory, cache))
        return self.join(x, at(self.ff_norm, layout), lambda h: self.ff(kept(h, seen)))

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> PassageCache:
        """An empty cache for `batch` rows of at most `capacity` tokens."""
        return PassageCache(self.mixer.new_cache(batch, capacity, dtype, device))
