"""Linear attention: a similarity of queries and keys that factorises, so that sums over the past replace looking back at it."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.nn.attention import divisors, near
from bloomery.nn.cache import Cache
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.nn.mixer import MixerConfig, SequenceMixer
from bloomery.nn.part import Shared
from bloomery.nn.scan import StateCache, chunked_scan

LEAST = -30.0  # products of two features as small as e to this power still have gradients


class LinearAttentionConfig(MixerConfig):
    """See `LinearAttention`."""

    n_heads: Annotated[int, Gt(0)]
    """Heads."""
    head_dim: Annotated[int, Gt(0)] | None = None
    """Features per head; None is d_model / n_heads."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases."""
    out_bias: bool = False
    """Whether the output has a bias."""
    chunk: Annotated[int, Gt(0)] = 64
    """Tokens per chunk of the causal form; changes rounding and speed."""

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        if self.head_dim is None and d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={d_model}; {near(self.n_heads, divisors(d_model))} would, or a head_dim")

    def width(self, d_model: int) -> int:
        """Features per head."""
        return self.head_dim or d_model // self.n_heads

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> LinearAttention:
        return LinearAttention(d_model, self)

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        """The maps; the sums, written and read; and, if causal, the chunk before each token, half of it on average."""
        width = self.width(d_model)
        inner = self.n_heads * width
        near_by = 4.0 * inner * min(self.chunk, seq_len) / 2 if causal else 0.0
        return 2.0 * 4 * d_model * inner + 4.0 * inner * width + near_by


class LinearAttention(SequenceMixer):
    """Attention whose weights are φ(q)·φ(k), normed to a sum of 1, for φ(x) = elu(x) + 1.

        y = W_out · concat_h [φ(q_t)ᵀ Σ_s φ(k_s) v_sᵀ] / [φ(q_t)ᵀ Σ_s φ(k_s)]

    over the s that t sees. The cost grows with the length, not with its square, and the cache is the two sums. It is a mixer of its own,
    computed exactly; its weights are not those of softmax attention, nor near them.

    Args:
        d_model: width of input and output.
        config: what it is made of.

    Source: Katharopoulos et al. (2020), arXiv 2006.16236, equations 5 to 9. Departure: causal sums by chunks (Dao and Gu, 2024, arXiv
    2405.21060) rather than token by token.
    """

    def __init__(self, d_model: int, config: LinearAttentionConfig) -> None:
        super().__init__()
        self.n_heads, self.head_dim, self.chunk = config.n_heads, config.width(d_model), config.chunk
        inner = self.n_heads * self.head_dim
        self.qkv = Linear(d_model, (inner, inner, inner), (Use.QUERY, Use.KEY, Use.VALUE), config.qkv_bias)
        self.out = Linear(inner, d_model, Use.MIXER_OUT, config.out_bias)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        exact = torch.promote_types(x.dtype, torch.float32)  # of long sums
        queries, keys, values = self.qkv(x).to(exact).unflatten(-1, (3, self.n_heads, self.head_dim)).unbind(2)
        queries, keys = feature_map(queries), feature_map(keys)
        values = F.pad(values, (0, 1), value=1.0)  # the sum of the ones is the divisor
        if cache is None:
            sums = self.sums(queries, keys, values, layout)
        else:
            assert isinstance(cache, StateCache)
            assert layout.causal, "a cache holds the past, which says nothing to a layout that sees the future"
            assert layout.prefix is None, "a cache holds the past, which says nothing to a layout that sees the future, in a prefix either"
            keys = keys * cache.go_on(layout)[:, :, None, None]  # padding adds nothing
            sums, state = chunked_scan(queries, keys, values, undecayed(keys), state=cache.state, chunk=self.chunk)
            cache.state.copy_(state)
        weighted, divisor = sums.split((self.head_dim, 1), dim=-1)
        mixed = weighted / divisor.clamp(min=torch.finfo(divisor.dtype).tiny)  # 0 in rows of nothing but padding
        return self.out(mixed.type_as(x).flatten(2))

    def sums(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch time heads head_dim"],
        values: Float[Tensor, "batch time heads width"], layout: SequenceLayout,
    ) -> Float[Tensor, "batch time heads width"]:
        """φ(q_t)ᵀ Σ_s φ(k_s) v_sᵀ over the s that t sees."""
        if not layout.causal:
            return over_segments(queries, keys, values, layout.segments, self.chunk)
        if layout.prefix is None:
            return chunked_scan(queries, keys, values, undecayed(keys), layout.segments, chunk=self.chunk)[0]
        prefix = keys * layout.prefix[:, :, None, None]
        past, _ = chunked_scan(queries, keys - prefix, values, undecayed(keys), layout.segments, chunk=self.chunk)
        return past + over_segments(queries, prefix, values, layout.segments, self.chunk)

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> StateCache:
        return StateCache.empty(batch, (self.n_heads, self.head_dim, self.head_dim + 1), (0, 0), dtype, device)


def feature_map(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """elu(x) + 1: x + 1 above 0, eˣ below, written so that small values are not rounded away against the 1; and never below e⁻³⁰."""
    return torch.where(x > 0, x + 1, x.clamp(LEAST, 0).exp())


def over_segments(
    queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch time heads head_dim"],
    values: Float[Tensor, "batch time heads width"], segments: Int[Tensor, "batch time"] | None, chunk: int,
) -> Float[Tensor, "batch time heads width"]:
    """q_tᵀ Σ_s k_s v_sᵀ over all s of t's segment: those up to t, those from t on, less t itself, which both hold."""
    if segments is None:
        return torch.einsum("bthn,bhnp->bthp", queries, torch.einsum("bthn,bthp->bhnp", keys, values))
    past, _ = chunked_scan(queries, keys, values, undecayed(keys), segments, chunk=chunk)
    future, _ = chunked_scan(*(x.flip(1) for x in (queries, keys, values, undecayed(keys), segments)), chunk=chunk)
    return past + future.flip(1) - (queries * keys).sum(-1, keepdim=True) * values


def undecayed(keys: Float[Tensor, "batch time heads head_dim"]) -> Float[Tensor, "batch time 1"]:
    """The log decay of a state that forgets nothing."""
    return keys.new_zeros(*keys.shape[:2], 1)
