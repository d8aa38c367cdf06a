"""Multi-head latent attention: keys and values are made from one short vector per place, which is all that a cache remembers."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from bloomery.nn.cache import Cache, PlacedCache
from bloomery.nn.layout import SequenceLayout, View
from bloomery.nn.linear import Linear, Use
from bloomery.nn.mixer import Looks, MixerConfig, SequenceMixer, one_per_key
from bloomery.nn.norms import NormConfig, RMSNormConfig
from bloomery.nn.part import Shared
from bloomery.nn.positions import RotaryConfig


class LatentAttentionConfig(MixerConfig):
    """See `LatentAttention`."""

    n_heads: Annotated[int, Gt(0)]
    """Heads."""
    d_latent: Annotated[int, Gt(0)]
    """Width of the vector that keys and values are made from."""
    d_query_latent: Annotated[int, Gt(0)] | None = None
    """Width of the vector that queries are made from; None makes them from the residual stream."""
    head_dim: Annotated[int, Gt(0)]
    """Features of a head's queries and keys that know no places."""
    rope_dim: Annotated[int, Gt(0)]
    """Features that are turned by their place, beside them; all heads have those of the key in common."""
    value_dim: int = Field(gt=0, default_factory=lambda known: known["head_dim"])
    """Features of a head's values; head_dim unless given."""
    positions: RotaryConfig = RotaryConfig()
    """How features are turned."""
    pairs: Literal["halves", "neighbours"] = "halves"
    """Which features are turned together: the i-th of the first half with the i-th of the second, or every two that stand side by side."""
    norm: NormConfig = RMSNormConfig(eps=1e-6)
    """Of the short vectors."""
    scale: Annotated[float, Gt(0)] | None = None
    """Factor on the scores; None is 1/√(head_dim + rope_dim)."""

    def check(self) -> None:
        if reason := self.positions.check_head(self.rope_dim):
            raise self.refuse("rope_dim", reason)

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> LatentAttention:
        rope = shared.get(("rope", self.positions, self.rope_dim), lambda: self.positions.rope(self.rope_dim, max_seq_len))
        return LatentAttention(d_model, self, rope)

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        """As a sequence is read at once; token by token the products with the latents cost more, and making keys and values nothing."""
        queries, values = self.n_heads * (self.head_dim + self.rope_dim), self.n_heads * self.value_dim
        from_model = self.d_latent + self.rope_dim + (self.d_query_latent or queries) + values  # the last: back to it
        from_latents = self.d_latent * (self.n_heads * self.head_dim + values) + (self.d_query_latent or 0) * queries
        seen = seq_len / 2 if causal else seq_len
        return 2.0 * (d_model * from_model + from_latents) + 2.0 * (queries + values) * seen


class LatentAttention(SequenceMixer):
    """Attention whose keys and values are made from a latent c of each place, and a key r that all heads have in common:

        c = norm(W_c · x),  r = turn(W_r · x);   k_h = [W_k,h · c; r],  v_h = W_v,h · c
        q_h = [W_q,h · x; turn(W_s,h · x)]  (or of norm(W_l · x) in place of x)
        y = W_out · concat_h softmax(q_h · k_hᵀ / √(head_dim + rope_dim)) · v_h

    A cache keeps c and r. Few new tokens are read by another order of the same products, that makes no keys and values:
    q_h · k_hᵀ = (W_k,hᵀ · q_h) · c + …, and what a head sees is W_v,h · Σ a·c.

    Args:
        d_model: width of input and output.
        config: what it is made of.
        rope: turns the features of queries and keys that know places; layers share it.

    Source: DeepSeek-AI (2024), DeepSeek-V2, arXiv 2405.04434, section 2.1 and appendix C. Departure: which pairs of features are turned is
    a field.
    """

    def __init__(self, d_model: int, config: LatentAttentionConfig, rope: nn.Module) -> None:
        super().__init__()
        n_heads, self.head_dim, self.rope_dim, self.value_dim = config.n_heads, config.head_dim, config.rope_dim, config.value_dim
        self.n_heads, self.d_latent = n_heads, config.d_latent
        width = n_heads * (self.head_dim + self.rope_dim)
        if config.d_query_latent is None:
            self.query: nn.Module = Linear(d_model, width, Use.QUERY)
        else:
            self.query = LatentQuery(d_model, config.d_query_latent, width, config.norm)
        self.down = Linear(d_model, (config.d_latent, self.rope_dim), (Use.OTHER, Use.KEY))
        self.norm = config.norm.build(config.d_latent)
        self.up = Linear(config.d_latent, (self.head_dim, self.value_dim) * n_heads, (Use.KEY, Use.VALUE) * n_heads)
        self.out = Linear(n_heads * self.value_dim, d_model, Use.MIXER_OUT)
        self.rope = rope if config.pairs == "halves" else NeighbourRope(rope)
        self.scale = config.scale or 1 / sqrt(self.head_dim + self.rope_dim)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        placeless, placed, latents, keys = self.made(x, layout)
        if cache is None:
            return self.out(self.unfolded(placeless, placed, latents, keys, layout.view))
        assert isinstance(cache, PlacedCache)
        latents, keys, view = cache.write(layout, latents, keys)
        mix = self.folded if self.folding_pays(layout.positions.shape[1]) else self.unfolded
        return self.out(mix(placeless, placed, latents, keys, view))

    def made(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both parts of the queries (batch, time, heads, head_dim or rope_dim), the latents (batch, time, d_latent) and the common keys."""
        queries = self.query(x).unflatten(-1, (self.n_heads, -1))  # (batch, time, heads, head_dim + rope_dim)
        placeless, placed = queries.split((self.head_dim, self.rope_dim), dim=-1)
        placed = self.rope(placed, layout.positions)
        latents, keys = self.down(x).split((self.d_latent, self.rope_dim), dim=-1)
        return placeless, placed, self.norm(latents), self.rope(keys[:, :, None], layout.positions)[:, :, 0]

    def looks(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Looks | None:
        placeless, placed, latents, common = self.made(x, layout)
        keys, _ = self.unfold(latents, common)
        mixed = self.attend(torch.cat((placeless, placed), dim=-1), keys, one_per_key(keys), layout.view)
        return Looks(mixed.transpose(1, 2), layout.view.seen)

    def unfolded(
        self, placeless: Float[Tensor, "batch time heads head_dim"], placed: Float[Tensor, "batch time heads rope_dim"],
        latents: Float[Tensor, "batch past d_latent"], keys: Float[Tensor, "batch past rope_dim"], view: View,
    ) -> Float[Tensor, "batch time d_values"]:
        """What the heads see, of keys and values made from the latents."""
        return self.attend(torch.cat((placeless, placed), dim=-1), *self.unfold(latents, keys), view).flatten(2)

    def unfold(self, latents: Float[Tensor, "batch past d_latent"], keys: Float[Tensor, "batch past rope_dim"]) -> tuple[Tensor, Tensor]:
        """Keys (batch, past, heads, head_dim + rope_dim) and values (batch, past, heads, value_dim) of the heads."""
        made = self.up(latents).unflatten(-1, (self.n_heads, -1))  # (batch, past, heads, head_dim + value_dim)
        of_heads, values = made.split((self.head_dim, self.value_dim), dim=-1)
        return torch.cat((of_heads, keys[:, :, None].expand(-1, -1, self.n_heads, -1)), dim=-1), values

    def folded(
        self, placeless: Float[Tensor, "batch time heads head_dim"], placed: Float[Tensor, "batch time heads rope_dim"],
        latents: Float[Tensor, "batch past d_latent"], keys: Float[Tensor, "batch past rope_dim"], view: View,
    ) -> Float[Tensor, "batch time d_values"]:
        """The same, with W_k folded into the queries and W_v behind the sums: one key-value head for all, whose values are the latents."""
        key_maps, value_maps = self.up.matrix.unflatten(0, (self.n_heads, -1)).split((self.head_dim, self.value_dim), dim=1)
        queries = torch.cat((torch.einsum("bthi,hij->bthj", placeless, key_maps), placed), dim=-1)
        seen = self.attend(queries, torch.cat((latents, keys), dim=-1)[:, :, None], latents[:, :, None], view)
        return torch.einsum("bthj,hij->bthi", seen, value_maps).flatten(2)

    def folding_pays(self, time: int) -> bool:
        """Whether so many new tokens cost less folded, with a long past: each then costs more, and the past need not be unfolded."""
        unfolding = self.d_latent * (self.head_dim + self.value_dim)  # per place of the past and head, as what follows
        return time * (2 * self.d_latent - self.head_dim - self.value_dim) < unfolding

    def attend(
        self, queries: Float[Tensor, "batch time heads width"], keys: Float[Tensor, "batch past kv_heads width"],
        values: Float[Tensor, "batch past kv_heads d_value"], view: View,
    ) -> Float[Tensor, "batch time heads d_value"]:
        """The weighted sums of the values that each query sees; one key-value head may serve all."""
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=view.mask, is_causal=view.plain_causal,
            scale=self.scale, enable_gqa=keys.shape[2] < queries.shape[2],
        )  # fmt: skip
        return mixed.transpose(1, 2)

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> PlacedCache:
        return PlacedCache.empty(batch, capacity, ((self.d_latent,), (self.rope_dim,)), dtype, device)


class LatentQuery(nn.Module):
    """Queries by way of a shorter vector:  W_up · norm(W_down · x)."""

    def __init__(self, d_model: int, d_latent: int, width: int, norm: NormConfig) -> None:
        super().__init__()
        self.down = Linear(d_model, d_latent, Use.OTHER)
        self.norm = norm.build(d_latent)
        self.up = Linear(d_latent, width, Use.QUERY)

    def forward(self, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time width"]:
        return self.up(self.norm(self.down(x)))


class NeighbourRope(nn.Module):
    """Turns features that stand side by side, (1, 2), (3, 4), …; what it gives has the first of all pairs before the second of all."""

    def __init__(self, rope: nn.Module) -> None:
        super().__init__()
        self.rope = rope

    def forward(
        self, x: Float[Tensor, "batch time heads head_dim"], positions: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time heads head_dim"]:
        return self.rope(x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2), positions)
