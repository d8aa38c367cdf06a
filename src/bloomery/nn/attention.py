"""Attention over all that a token sees, or over a window: multi-head, grouped-query and multi-query, with or without positions and norms.

`GroupedHeadsConfig` and `Attention` are also what the variants are made of that see less than all, or come near it at less cost: they have
the same weights, and mix by `whole` and `mix` in their own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from bloomery.mesh.divide import Cut, Headed, share_bias
from bloomery.nn.cache import Cache, PlacedCache
from bloomery.nn.layout import SequenceLayout, View
from bloomery.nn.linear import Linear, Use
from bloomery.nn.local import local_attention
from bloomery.nn.mixer import Looks, MixerConfig, SequenceMixer, one_per_key
from bloomery.nn.norms import NormConfig
from bloomery.nn.part import Shared
from bloomery.nn.positions import PositionsConfig, RotaryConfig, ScoreBias

SHORTEST_CHUNK = 64  # queries of a window's chunk; fewer cost more in copied keys than they save in products
Attend = Callable[..., Tensor]


class HeadsConfig(MixerConfig):
    """Heads that tell places apart: what all attention has in common."""

    n_heads: Annotated[int, Gt(0)]
    """Query heads."""
    head_dim: Annotated[int, Gt(0)] | None = None
    """Features per head; None is d_model / n_heads."""
    positions: PositionsConfig = RotaryConfig()
    """How it tells places apart."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases."""
    out_bias: bool = False
    """Whether the output has a bias."""

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        if self.head_dim is None and d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={d_model}; {near(self.n_heads, divisors(d_model))} would, or a head_dim")
        width = self.width(d_model)
        if reason := self.positions.check_head(width):
            field = "n_heads" if self.head_dim is None else "head_dim"
            raise self.refuse(field, f"makes head_dim={width}, which {reason}" if field == "n_heads" else reason)

    def width(self, d_model: int) -> int:
        """Features per head."""
        return self.head_dim or d_model // self.n_heads

    def rope(self, d_model: int, max_seq_len: int, shared: Shared) -> nn.Module:
        """What turns queries and keys; the layers of a model share it."""
        width = self.width(d_model)
        return shared.get(("rope", self.positions, width), lambda: self.positions.rope(width, max_seq_len))

    def bias(self, shared: Shared) -> ScoreBias | None:
        """What is added to the scores; the layers of a model share it."""
        return shared.get(("bias", self.positions, self.n_heads), lambda: self.positions.bias(self.n_heads))


class GroupedHeadsConfig(HeadsConfig):
    """Queries, keys and values from one matrix, groups of query heads sharing a key-value head."""

    n_kv_heads: int = Field(gt=0, default_factory=lambda known: known["n_heads"])
    """Key-value heads, a divisor of n_heads: n_heads makes it multi-head, 1 multi-query attention."""
    qk_norm: NormConfig | None = None
    """Norm of queries and keys before their product (and before they are turned); None for none."""
    qk_norm_over: Literal["head", "all"] = "head"
    """Whether each head is normed by itself, or all heads as one vector."""
    scale: Annotated[float, Gt(0)] | None = None
    """Factor on the scores; None is 1/√head_dim."""

    def check(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise self.refuse("n_kv_heads", f"does not divide n_heads={self.n_heads}; {near(self.n_kv_heads, divisors(self.n_heads))} would")

    def attend(self, head_dim: int) -> Attend:
        """softmax(mask + scale · q·kᵀ) · v, of the arguments that `softcapped_attention` has."""
        return partial(F.scaled_dot_product_attention, scale=self.score_scale(head_dim), enable_gqa=self.n_kv_heads < self.n_heads)

    def score_scale(self, head_dim: int) -> float:
        """Factor on the scores."""
        return self.scale or 1 / sqrt(head_dim)

    def projection_flops(self, d_model: int) -> float:
        """Operations per token of making queries, keys, values and the output."""
        return 2.0 * d_model * self.width(d_model) * 2 * (self.n_heads + self.n_kv_heads)


class AttentionConfig(GroupedHeadsConfig):
    """See `Attention`, and `WindowedAttention`."""

    window: Annotated[int, Gt(0)] | None = None
    """A token sees those less than so many places away, itself included; None sees all."""
    softcap: Annotated[float, Gt(0)] | None = None
    """Scores are held below it by tanh; None leaves them free."""

    def attend(self, head_dim: int) -> Attend:
        if self.softcap is None:
            return super().attend(head_dim)
        return partial(softcapped_attention, scale=self.score_scale(head_dim), softcap=self.softcap)

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> Attention:
        parts = self.rope(d_model, max_seq_len, shared), self.bias(shared)
        return Attention(d_model, self, *parts) if self.window is None else WindowedAttention(d_model, self, *parts, self.window)

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        seen = seq_len / 2 if causal else seq_len
        if self.window is not None:
            seen = min(seen, self.window if causal else 2 * self.window)
        return self.projection_flops(d_model) + 4.0 * self.n_heads * self.width(d_model) * seen


class Attention(SequenceMixer, Headed):
    """Grouped-query attention.

        y = W_out · concat_h softmax(scale · q_h · k_g(h)ᵀ + bias_h) · v_g(h)

    where n_heads / n_kv_heads neighbouring query heads h share the key-value head g(h). Queries, keys and values come from one matrix
    whose rows are all query heads, then all key heads, then all value heads.

    Args:
        d_model: width of input and output.
        config: what it is made of.
        rope: turns queries and keys; layers share it.
        bias: of the scores; layers share it.

    Source: Ainslie et al. (2023), arXiv 2305.13245; Vaswani et al. (2017), arXiv 1706.03762, section 3.2; soft cap: Gemma Team (2024),
    arXiv 2408.00118, section 2.
    """

    reads_once: ClassVar[bool] = True

    def __init__(self, d_model: int, config: GroupedHeadsConfig, rope: nn.Module, bias: ScoreBias | None = None) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.width(d_model)
        queries, keys = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        self.qkv = Linear(d_model, (queries, keys, keys), (Use.QUERY, Use.KEY, Use.VALUE), config.qkv_bias)
        self.out = Linear(queries, d_model, Use.MIXER_OUT, config.out_bias)
        self.qk_norm = nn.Identity() if config.qk_norm is None else QKNorm(config, self.head_dim)
        self.rope, self.bias = rope, bias
        self.attend = config.attend(self.head_dim)

    def indivisible(self, ranks: int) -> str:
        if isinstance(self.qk_norm, QKNorm) and self.qk_norm.over_all:
            return "norms all heads of a place as one (qk_norm_over='all')"
        return self.inseparable(ranks)

    def inseparable(self, ranks: int) -> str:
        return f"has n_heads={self.n_heads} and n_kv_heads={self.n_kv_heads}" if self.n_kv_heads % ranks else ""

    def divide(self, index: int, ranks: int) -> Mapping[str, Cut]:
        self.n_heads, self.n_kv_heads = self.n_heads // ranks, self.n_kv_heads // ranks
        if isinstance(self.qk_norm, QKNorm):
            self.qk_norm.split = self.n_heads, self.n_kv_heads
        share_bias(self.out, ranks)
        by_head = Cut(0, self.qkv.heights)
        cuts = {"qkv.weight": by_head, "out.weight": Cut(1, (self.out.in_features,))}
        return cuts if self.qkv.bias is None else {**cuts, "qkv.bias": by_head}

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        queries, keys, values = self.heads(x, layout)
        if cache is None:
            mixed = layout.mixed(self.whole, queries, keys, values)
        else:
            assert isinstance(cache, PlacedCache)
            mixed = self.mix(queries, *cache.write(layout, keys, values))
        return self.out(mixed.flatten(2))  # (batch, time, n_heads · head_dim) before the projection

    def heads(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (batch, time, n_heads, head_dim), keys and values (batch, time, n_kv_heads, head_dim); the first two normed and turned."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # (batch, time, n_heads + 2·n_kv_heads, head_dim)
        queries_and_keys, values = heads.split((self.n_heads + self.n_kv_heads, self.n_kv_heads), dim=2)
        turned = self.rope(self.qk_norm(queries_and_keys), layout.positions)
        queries, keys = turned.split((self.n_heads, self.n_kv_heads), dim=2)
        return queries, keys, values

    def whole(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch time kv_heads head_dim"],
        values: Float[Tensor, "batch time kv_heads head_dim"], layout: SequenceLayout,
    ) -> Float[Tensor, "batch time heads head_dim"]:
        """The weighted sums of the values that each query sees, in rows read at once."""
        return self.mix(queries, keys, values, layout.view)

    def mix(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch past kv_heads head_dim"],
        values: Float[Tensor, "batch past kv_heads d_value"], view: View,
    ) -> Float[Tensor, "batch time heads d_value"]:
        """The weighted sums of the values that each query sees."""
        mask = view.mask
        if self.bias is not None:
            mask = self.bias(view).masked_fill(~view.seen, -torch.inf).type_as(queries)
        causal = view.plain_causal and self.bias is None
        mixed = self.attend(
            queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask, is_causal=causal  # (batch, heads, …)
        )
        return mixed.transpose(1, 2)  # (batch, time, heads, d_value)

    def sees(self, layout: SequenceLayout) -> View:
        """Which keys each query sees in rows read at once."""
        return layout.view

    def looks(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Looks | None:
        queries, keys, _ = self.heads(x, layout)
        mixed = self.mix(queries, keys, one_per_key(keys), layout.view)
        return Looks(mixed.transpose(1, 2), self.sees(layout).seen)

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> PlacedCache:
        return PlacedCache.empty(batch, capacity, ((self.n_kv_heads, self.head_dim),) * 2, dtype, device)


class WindowedAttention(Attention):
    """Attention to what is less than `window` places away: work and memory grow with time · window.

    Rows of more than four chunks are mixed chunk by chunk; others, and those with a prefix or a cache, by a mask over
    all keys. The numbers are the same.

    Source: Child et al. (2019), arXiv 1904.10509; Beltagy et al. (2020), arXiv 2004.05150, section 3.1; causal as in Mistral, arXiv
    2310.06825.
    """

    def __init__(self, d_model: int, config: GroupedHeadsConfig, rope: nn.Module, bias: ScoreBias | None, window: int) -> None:
        super().__init__(d_model, config, rope, bias)
        self.window = window

    def whole(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch time kv_heads head_dim"],
        values: Float[Tensor, "batch time kv_heads head_dim"], layout: SequenceLayout,
    ) -> Float[Tensor, "batch time heads head_dim"]:
        chunk = max(self.window, SHORTEST_CHUNK)
        if layout.prefix is not None or queries.shape[1] <= 4 * chunk:
            return self.mix(queries, keys, values, layout.view)
        return local_attention(super().mix, queries, keys, values, layout, self.window, chunk)

    def mix(
        self, queries: Float[Tensor, "batch time heads head_dim"], keys: Float[Tensor, "batch past kv_heads head_dim"],
        values: Float[Tensor, "batch past kv_heads d_value"], view: View,
    ) -> Float[Tensor, "batch time heads d_value"]:
        return super().mix(queries, keys, values, view.within(self.window))

    def sees(self, layout: SequenceLayout) -> View:
        return layout.view.within(self.window)


class QKNorm(nn.Module):
    """Norms of queries and keys, each head by itself or all heads of a place as one vector.

    Source: Henry et al. (2020), arXiv 2010.04245; by RMS, per head as in Qwen3 (arXiv 2505.09388), over all heads as in OLMo 2 (arXiv
    2501.00656).
    """

    def __init__(self, config: GroupedHeadsConfig, head_dim: int) -> None:
        super().__init__()
        assert config.qk_norm is not None
        self.split, self.over_all = (config.n_heads, config.n_kv_heads), config.qk_norm_over == "all"
        widths = [n * head_dim for n in self.split] if self.over_all else [head_dim, head_dim]
        self.query, self.key = (config.qk_norm.build(width) for width in widths)

    def forward(self, heads: Float[Tensor, "batch time heads head_dim"]) -> Float[Tensor, "batch time heads head_dim"]:
        queries, keys = heads.split(self.split, dim=2)
        if not self.over_all:
            return torch.cat((self.query(queries), self.key(keys)), dim=2)
        both = torch.cat((self.query(queries.flatten(2)), self.key(keys.flatten(2))), dim=-1)
        return both.unflatten(-1, heads.shape[2:])


def softcapped_attention(
    queries: Float[Tensor, "batch heads time head_dim"], keys: Float[Tensor, "batch kv_heads past head_dim"],
    values: Float[Tensor, "batch kv_heads past d_value"], attn_mask: Tensor | None, is_causal: bool, scale: float, softcap: float,
) -> Float[Tensor, "batch heads time d_value"]:
    """softmax(mask + cap · tanh(scale · q·kᵀ / cap)) · v, by the book: no kernel of torch's has the tanh.

    Args:
        queries: (batch, heads, time, head_dim).
        keys: fewer heads, each for a group of neighbouring query heads.
        values: as many as keys.
        attn_mask: True or 0 where a query sees a key; False or −∞ where not.
        is_causal: whether queries see no later keys; then there is no mask.
        scale: factor on the products.
        softcap: scores stay below it.
    """
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
    scores = softcap * torch.tanh(scale / softcap * (queries @ keys.mT))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ values


def divisors(number: int) -> list[int]:
    """All of them, 1 and the number included."""
    return [n for n in range(1, number + 1) if number % n == 0]


def near(value: int, candidates: list[int]) -> str:
    """The candidates on both sides of a value: "8 or 12"."""
    below, above = [n for n in candidates if n < value], [n for n in candidates if n > value]
    return " or ".join(str(n) for n in below[-1:] + above[:1])
