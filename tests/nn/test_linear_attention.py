"""Linear attention by sums against its weights written out; what it starts from, keeps and refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.draws import normal, segments

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.nn import LinearAttention, LinearAttentionConfig, NormalInit, SequenceLayout, Shared
from bloomery.nn.init import initialise
from bloomery.nn.linear_attention import feature_map

D_MODEL = 12


def layer(config: LinearAttentionConfig) -> LinearAttention:
    mixer = config.build(D_MODEL, 64, Shared())
    initialise(mixer, NormalInit(std=0.4), n_layers=1, seed=0)
    return mixer


def by_the_book(mixer: LinearAttention, x: torch.Tensor, layout: SequenceLayout) -> torch.Tensor:
    """Every weight of every pair, as softmax attention has them, but of φ(q)·φ(k)."""
    queries, keys, values = (part.transpose(1, 2) for part in mixer.qkv(x).unflatten(-1, (3, mixer.n_heads, mixer.head_dim)).unbind(2))
    scores = (feature_map(queries) @ feature_map(keys).mT).masked_fill(~layout.view.seen, 0.0)
    mixed = scores / scores.sum(-1, keepdim=True) @ values
    return mixer.out(mixed.transpose(1, 2).flatten(2))


@st.composite
def layouts(draw: st.DrawFn) -> SequenceLayout:
    batch, time = draw(st.integers(1, 2)), draw(st.integers(1, 19))
    kind = draw(st.sampled_from(["causal", "both ways", "prefix"]))
    if draw(st.booleans()):
        layout = SequenceLayout.packed(draw(segments(batch, time)), causal=kind != "both ways")
    else:
        layout = SequenceLayout.rows(batch, time, causal=kind != "both ways")
    if kind != "prefix":
        return layout
    return SequenceLayout(layout.positions, layout.segments, True, layout.positions < draw(st.integers(0, time)))


@settings(max_examples=60, deadline=None)
@given(layouts(), st.integers(1, 20), st.sampled_from([1, 2, 3]))
def test_sums_are_the_weights_written_out_in_values_and_gradients(layout, chunk, n_heads):
    found = []
    for compute in (lambda mixer, x: mixer(x, layout), lambda mixer, x: by_the_book(mixer, x, layout)):
        mixer = layer(LinearAttentionConfig(n_heads=n_heads, head_dim=5, chunk=chunk))
        x = normal(*layout.positions.shape, D_MODEL).requires_grad_()
        y = compute(mixer, x)
        (y * normal(*y.shape, seed=6)).mean().backward()
        found.append((y, x.grad, mixer.qkv.weight.grad))
    for fast, naive in zip(*found, strict=True):
        torch.testing.assert_close(fast, naive, atol=1e-5, rtol=0)


def test_the_feature_map_is_elu_plus_one_and_keeps_what_is_small():
    x = torch.tensor([-3.0, -0.5, 0.0, 0.5, 4.0])
    torch.testing.assert_close(feature_map(x), torch.nn.functional.elu(x) + 1)
    assert feature_map(torch.tensor(-25.0)).item() == pytest.approx(1.3888e-11, rel=1e-4)  # elu(−25) + 1 rounds to 0


def test_far_below_zero_nothing_is_divided_by_zero():
    mixer = layer(LinearAttentionConfig(n_heads=1, qkv_bias=True))
    mixer.qkv.bias.data[:D_MODEL] = -200.0
    y = mixer(normal(1, 3, D_MODEL), SequenceLayout.rows(1, 3))
    y.sum().backward()
    assert y.isfinite().all()
    assert mixer.qkv.weight.grad.isfinite().all()


def test_a_cache_is_two_sums_and_sees_no_prefix():
    mixer = layer(LinearAttentionConfig(n_heads=3))
    cache = mixer.new_cache(2, 10_000, torch.bfloat16, torch.device("cpu"))
    assert (cache.state.shape, cache.recent.numel(), cache.state.dtype) == ((2, 3, 4, 5), 0, torch.float32)
    layout = SequenceLayout(torch.arange(3).expand(2, 3), prefix=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(AssertionError, match="in a prefix either"):
        mixer(normal(2, 3, D_MODEL), layout, cache)


def test_heads_that_do_not_divide_the_model_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"LinearAttentionConfig\.n_heads=5 does not divide d_model=12; 4 or 6 would, or a head_dim"):
        TransformerConfig(vocab_size=10, d_model=12, n_layers=1, mixers=(LinearAttentionConfig(n_heads=5),), feed_forwards=(None,))
