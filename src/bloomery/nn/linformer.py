"""Attention to a fixed number of mixtures of the keys: Linformer."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.nn.approximate import LowRankAttention, LowRankConfig
from bloomery.nn.layout import View
from bloomery.nn.linear import Linear, Use
from bloomery.nn.part import Shared


class LinformerConfig(LowRankConfig):
    """See `Linformer`."""

    n_mixtures: Annotated[int, Gt(0)] = 128
    """Mixtures of keys that a query sees; a document of fewer tokens has as many as it has tokens."""

    def check_model(self, d_model: int, max_seq_len: int) -> None:
        super().check_model(d_model, max_seq_len)
        if self.n_mixtures > max_seq_len:
            raise self.refuse("n_mixtures", f"is above max_seq_len={max_seq_len}, the most that a document can use; {max_seq_len} would do")

    def build(self, d_model: int, max_seq_len: int, shared: Shared) -> Linformer:
        return Linformer(d_model, max_seq_len, self, self.rope(d_model, max_seq_len, shared))

    def flops(self, d_model: int, seq_len: int | float, causal: bool) -> float:
        width, n = self.width(d_model), min(self.n_mixtures, seq_len)
        return self.projection_flops(d_model) + 4.0 * n * width * (self.n_kv_heads + self.n_heads)


class Linformer(LowRankAttention):
    """Softmax attention to learnt mixtures of keys and values along time.

        y = W_out · concat_h softmax(scale · q_h · (E · k_g)ᵀ) · F · v_g,   E and F of (n_mixtures, max_seq_len)

    A document of n tokens uses the first n columns, and the first n rows if these are fewer than n_mixtures. Work and memory grow with
    time · n_mixtures. The mixtures are of all tokens of a document, so it reads both ways only.

    Args:
        d_model: width of input and output.
        max_seq_len: positions run below it.
        config: what it is made of.
        rope: turns queries and keys.

    Source: Wang et al. (2020), arXiv 2006.04768, section 4. E and F are shared by the heads of a layer ("headwise"). Departures: documents
    of any length up to max_seq_len.
    """

    def __init__(self, d_model: int, max_seq_len: int, config: LinformerConfig, rope: nn.Module) -> None:
        super().__init__(d_model, config, rope)
        self.mix_keys = Linear(max_seq_len, config.n_mixtures, Use.OTHER)
        self.mix_values = Linear(max_seq_len, config.n_mixtures, Use.OTHER)

    def approximate(
        self, queries: Float[Tensor, "documents time heads head_dim"], keys: Float[Tensor, "documents time kv_heads head_dim"],
        values: Float[Tensor, "documents time kv_heads head_dim"], lengths: Int[Tensor, " documents"],
    ) -> Float[Tensor, "documents time heads head_dim"]:
        time, n_mixtures = queries.shape[1], self.mix_keys.out_features
        keys, values = (
            torch.einsum("mt,dtkf->dmkf", mix.matrix[:, :time], x) for mix, x in ((self.mix_keys, keys), (self.mix_values, values))
        )
        rows = torch.arange(n_mixtures, device=lengths.device)[None]
        used = (rows < lengths[:, None])[:, None, None, :].expand(-1, -1, time, -1)
        return self.mix(queries, keys, values, View(torch.arange(time, device=lengths.device)[None], rows, used))
