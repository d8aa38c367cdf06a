"""Attention in its forms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.nn.cache import Cache, KeyValueCache
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.mixer import SequenceMixer
from bloomery.nn.positions import Rope


class Attention(SequenceMixer):
    """Grouped-query attention with rotary positions.

        y = W_out · concat_h softmax(q_h · k_g(h)ᵀ / √head_dim) · v_g(h)

    where n_heads / n_kv_heads neighbouring query heads h share the key-value head g(h). Queries, keys and values come from one matrix
    whose rows are all query heads, then all key heads, then all value heads.

    Args:
        d_model: width of input and output.
        n_heads: query heads.
        n_kv_heads: key-value heads, a divisor of n_heads; n_heads gives multi-head, 1 multi-query attention.
        head_dim: features per head, even.
        rope: the position encoding, which layers share.

    Source: Ainslie et al. (2023), arXiv 2305.13245; Vaswani et al. (2017), arXiv 1706.03762, section 3.2.
    """

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, head_dim: int, rope: Rope) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.grouped = n_kv_heads < n_heads
        self.qkv = nn.Linear(d_model, (n_heads + 2 * n_kv_heads) * head_dim, bias=False)
        self.out = nn.Linear(n_heads * head_dim, d_model, bias=False)
        self.rope = rope

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # (batch, time, n_heads + 2·n_kv_heads, head_dim)
        queries_and_keys, values = heads.split((self.n_heads + self.n_kv_heads, self.n_kv_heads), dim=2)
        queries, keys = self.rope(queries_and_keys, layout.positions).split((self.n_heads, self.n_kv_heads), dim=2)
        mask, causal = layout.mask, layout.causal and layout.segments is None
        if cache is not None:
            assert isinstance(cache, KeyValueCache)
            keys, values, mask = cache.write(layout, keys, values)
            causal = False
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2),  # (batch, heads, time, head_dim)
            attn_mask=mask, is_causal=causal, enable_gqa=self.grouped,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))  # (batch, time, n_heads · head_dim) before the projection

    def new_cache(self, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> KeyValueCache:
        return KeyValueCache.empty(batch, capacity, self.n_kv_heads, self.head_dim, dtype, device)
