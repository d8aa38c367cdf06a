"""Attention against its equation, written out token by token, over drawn combinations of all that it can be made of."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.packed import D_MODEL, built, documents, inputs, layouts

from bloomery.core.errors import ConfigError
from bloomery.nn import AlibiConfig, AttentionConfig, LayerNormConfig, NoPositionsConfig, RMSNormConfig, RotaryConfig, SequenceLayout
from bloomery.nn.attention import Attention

CONFIGS = st.builds(
    lambda groups, each, **fields: AttentionConfig(n_heads=groups * each, n_kv_heads=groups, **fields),
    groups=st.integers(1, 2), each=st.integers(1, 2), head_dim=st.sampled_from([4, 6]),
    positions=st.sampled_from([RotaryConfig(theta=100.0), AlibiConfig(), NoPositionsConfig()]), window=st.none() | st.integers(1, 8),
    qkv_bias=st.booleans(), out_bias=st.booleans(), qk_norm=st.sampled_from([None, RMSNormConfig(), LayerNormConfig()]),
    qk_norm_over=st.sampled_from(["head", "all"]), scale=st.none() | st.floats(0.1, 2.0), softcap=st.none() | st.floats(0.5, 20.0),
)


def by_the_book(attention: Attention, config: AttentionConfig, x: torch.Tensor, layout: SequenceLayout) -> torch.Tensor:
    """One query at a time: its scores with the keys that it sees, their softmax, the weighted sum of their values."""
    width, group = attention.head_dim, config.n_heads // config.n_kv_heads
    sizes = [config.n_heads * width, config.n_kv_heads * width, config.n_kv_heads * width]
    queries, keys, values = attention.qkv(x).split(sizes, dim=-1)
    if config.qk_norm is not None and config.qk_norm_over == "all":
        queries, keys = attention.qk_norm.query(queries), attention.qk_norm.key(keys)
    queries, keys, values = (one.unflatten(-1, (-1, width)) for one in (queries, keys, values))
    if config.qk_norm is not None and config.qk_norm_over == "head":
        queries, keys = attention.qk_norm.query(queries), attention.qk_norm.key(keys)
    queries, keys = attention.rope(queries, layout.positions), attention.rope(keys, layout.positions)
    mixed = torch.zeros(*x.shape[:2], config.n_heads, width)
    for row, start, end in documents(layout):
        for i in range(start, end):
            seen = [j for j in range(start, end) if sees(config, layout, row, i, j)]
            for h in range(config.n_heads):
                scores = keys[row, seen, h // group] @ queries[row, i, h] * (config.scale or 1 / math.sqrt(width))
                if config.softcap is not None:
                    scores = config.softcap * torch.tanh(scores / config.softcap)
                if attention.bias is not None:
                    scores = scores - attention.bias.slopes[h] * torch.tensor([abs(i - j) for j in seen])
                mixed[row, i, h] = scores.softmax(0) @ values[row, seen, h // group]
    return attention.out(mixed.flatten(2))


def sees(config: AttentionConfig, layout: SequenceLayout, row: int, i: int, j: int) -> bool:
    """Whether the token at place i sees that at j of its own document."""
    before = not layout.causal or j <= i or (layout.prefix is not None and bool(layout.prefix[row, j]))
    reach = config.window or 10**9
    return before and i - j < reach and (layout.causal or j - i < reach)


@settings(max_examples=60, deadline=None)
@given(CONFIGS, layouts(longest=9, prefix=True))
def test_attention_is_its_equation_whatever_it_is_made_of(config, layout):
    attention, x = built(config), inputs(layout)
    expected, real = by_the_book(attention, config, x, layout), torch.ones_like(layout.positions, dtype=torch.bool)
    if layout.segments is not None:
        real = layout.segments > 0
    torch.testing.assert_close(attention(x, layout)[real], expected[real], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [AttentionConfig(n_heads=4, n_kv_heads=2), AttentionConfig(n_heads=4, window=8)], ids=["full", "window"])
def test_plain_causal_rows_need_no_mask(config, monkeypatch):
    asked = []
    original = F.scaled_dot_product_attention

    def spy(*tensors, **options):
        asked.append((options["attn_mask"], options["is_causal"], options["enable_gqa"]))
        return original(*tensors, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    layout = SequenceLayout.rows(2, 10)
    built(config)(inputs(layout), layout)
    (mask, causal, grouped), = asked
    if config.window is None:
        assert (mask, causal, grouped) == (None, True, True)
    else:
        assert mask is not None
        assert not causal


def test_what_does_not_fit_is_refused_with_the_field_and_a_remedy():
    with pytest.raises(ConfigError, match=r"AttentionConfig\.n_kv_heads=3 does not divide n_heads=4; 2 or 4 would"):
        AttentionConfig(n_heads=4, n_kv_heads=3)
    with pytest.raises(ConfigError, match=rf"AttentionConfig\.n_heads=3 does not divide d_model={D_MODEL}; 2 or 4 would"):
        AttentionConfig(n_heads=3).check_model(D_MODEL, 8)
    with pytest.raises(ConfigError, match=r"AttentionConfig\.head_dim=5 is odd"):
        AttentionConfig(n_heads=3, head_dim=5).check_model(D_MODEL, 8)
