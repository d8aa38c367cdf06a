"""Linformer against its equation document by document, and against softmax attention in the limit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.packed import MAX_SEQ_LEN, built, documents, error_of, inputs, layouts

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.nn import AlibiConfig, GatedConfig, LinformerConfig, SequenceLayout


@settings(max_examples=30, deadline=None)
@given(layouts(causal=False), st.integers(1, 30), st.sampled_from([1, 2]))
def test_it_is_its_equation_for_each_document(layout, n_mixtures, n_kv_heads):
    mixer = built(LinformerConfig(n_heads=2, n_kv_heads=n_kv_heads, n_mixtures=n_mixtures)).double()
    x = inputs(layout).double()
    queries, keys, values = mixer.heads(x, layout)
    found = mixer(x, layout)
    for row, start, end in documents(layout):
        n, of_heads = min(n_mixtures, end - start), []
        for h in range(2):
            k, v = (one[row, start:end, h * n_kv_heads // 2] for one in (keys, values))
            fewer_keys, fewer_values = mixer.mix_keys.weight[:n, : end - start] @ k, mixer.mix_values.weight[:n, : end - start] @ v
            of_heads.append((queries[row, start:end, h] @ fewer_keys.T / k.shape[-1] ** 0.5).softmax(-1) @ fewer_values)
        torch.testing.assert_close(found[row, start:end], mixer.out(torch.cat(of_heads, -1)), atol=1e-9, rtol=0)


@settings(max_examples=20, deadline=None)
@given(layouts(causal=False, longest=40))
def test_as_many_mixtures_as_tokens_each_of_one_token_are_softmax_attention(layout):
    mixer, x = built(LinformerConfig(n_heads=2, n_mixtures=MAX_SEQ_LEN)), inputs(layout)
    for mix in (mixer.mix_keys, mixer.mix_values):
        torch.nn.init.eye_(mix.weight)
    real = slice(None) if layout.segments is None else layout.segments > 0
    torch.testing.assert_close(mixer(x, layout)[real], mixer.exact(x, layout)[real], atol=1e-5, rtol=0)


def test_more_mixtures_come_nearer_to_softmax_attention():
    layout = SequenceLayout.rows(4, 60, causal=False)
    x, errors = inputs(layout), []
    for n in (1, 8, 30, 60):
        mixer = built(LinformerConfig(n_heads=2, n_mixtures=n))
        for mix in (mixer.mix_keys, mixer.mix_values):  # means over equal stretches, which a learnt projection can but improve on
            mix.weight.data.zero_()
            for token in range(60):
                mix.weight.data[token * n // 60, token] = n / 60
        errors.append(error_of(mixer, x, layout))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5


def test_it_cannot_read_forward():
    mixer = LinformerConfig(n_heads=2, n_mixtures=4)
    with pytest.raises(ConfigError, match=r"TransformerConfig\.mixers\[0\]=LinformerConfig sees what comes after a token"):
        TransformerConfig(vocab_size=9, d_model=16, n_layers=1, mixers=(mixer,), feed_forwards=(GatedConfig(d_ff=8),))
    layout = SequenceLayout.rows(1, 5)
    with pytest.raises(ConfigError, match="causal=False"):
        built(mixer)(inputs(layout), layout)
    with pytest.raises(NotImplementedError, match="Linformer cannot read token by token"):
        built(mixer).new_cache(1, 4, torch.float32, torch.device("cpu"))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"LinformerConfig\.n_mixtures=9 is above max_seq_len=8"):
        LinformerConfig(n_heads=2, n_mixtures=9).check_model(16, 8)
    with pytest.raises(ConfigError, match=r"LinformerConfig\.positions=.* RotaryConfig\(\) would do"):
        LinformerConfig(n_heads=2, n_mixtures=4, positions=AlibiConfig()).check_model(16, 8)
