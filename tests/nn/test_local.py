"""Chunk by chunk equals by a mask over all keys."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.packed import built, inputs, layouts

from bloomery.nn import AlibiConfig, AttentionConfig, RotaryConfig, SequenceLayout
from bloomery.nn.local import Chunks, local_attention


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 6), st.integers(0, 6))
def test_a_chunk_reaches_the_stretch_around_it(time, size, before, behind):
    row = torch.arange(time).expand(2, time)
    chunks = Chunks(size, before, behind)
    assert torch.equal(chunks.together(chunks.own(row), 2, time), row)
    reached = chunks.reach(row, fill=-1).unflatten(0, (2, -1))
    for c in range(-(-time // size)):
        stretch = range(c * size - before, (c + 1) * size + behind)
        assert reached[1, c].tolist() == [place if 0 <= place < time else -1 for place in stretch]


@settings(max_examples=80, deadline=None)
@given(layouts(), st.integers(1, 12), st.integers(1, 12), st.sampled_from([AlibiConfig(), RotaryConfig()]), st.none() | st.just(3.0))
def test_chunks_and_a_mask_over_all_keys_give_the_same(layout, window, chunk, positions, softcap):
    attention = built(AttentionConfig(n_heads=2, n_kv_heads=1, head_dim=6, window=window, positions=positions, softcap=softcap), std=0.2)
    heads = attention.heads(inputs(layout), layout)
    unwindowed = super(type(attention), attention).mix
    local = local_attention(unwindowed, *heads, layout, window, chunk)
    masked = attention.mix(*heads, layout.view)
    real = slice(None) if layout.segments is None else layout.segments > 0
    torch.testing.assert_close(local[real], masked[real], atol=1e-6, rtol=0)
    assert local.isfinite().all()


def windowed(time: int, causal: bool):
    layout = SequenceLayout.packed(torch.tensor([[1] * (time - 90) + [2] * 70 + [0] * 20]), causal)
    attention = built(AttentionConfig(n_heads=2, head_dim=6, window=20, positions=AlibiConfig()))
    return attention, inputs(layout).requires_grad_(), layout


def test_long_rows_are_chunked_and_their_gradients_are_those_of_the_mask():
    for causal in (True, False):
        attention, x, layout = windowed(300, causal)
        heads = attention.heads(x, layout)
        real = layout.segments > 0
        by_chunk, = torch.autograd.grad(attention(x, layout)[real].square().sum(), x)
        masked = attention.out(attention.mix(*heads, layout.view).flatten(2))
        by_mask, = torch.autograd.grad(masked[real].square().sum(), x)
        torch.testing.assert_close(by_chunk, by_mask, atol=1e-4, rtol=1e-4)


def test_long_rows_build_no_square(monkeypatch):
    attention, x, layout = windowed(600, True)
    monkeypatch.setattr(SequenceLayout, "view", property(lambda self: 1 / 0))
    assert attention(x, layout).isfinite().all()
