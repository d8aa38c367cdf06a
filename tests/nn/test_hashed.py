"""Hashed attention against its definition token by token, and against softmax attention over all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.packed import built, documents, error_of, inputs, layouts, normal

from bloomery.core.errors import ConfigError
from bloomery.nn import AlibiConfig, HashedAttention, HashedAttentionConfig, NoPositionsConfig, RotaryConfig, SequenceLayout

CONFIGS = st.builds(
    HashedAttentionConfig, n_heads=st.just(2), head_dim=st.just(6), n_buckets=st.integers(1, 6), n_rounds=st.integers(1, 3),
    window=st.integers(1, 8), seed=st.integers(0, 3), positions=st.sampled_from([RotaryConfig(), NoPositionsConfig()]),
)  # fmt: skip


def by_the_book(mixer: HashedAttention, x: torch.Tensor, layout: SequenceLayout) -> torch.Tensor:
    """One query at a time: in each round those of its bucket, the nearest of them, and the softmax over what the rounds found."""
    queries, keys, values = mixer.heads(x, layout)
    buckets = mixer.hashes(keys)
    mixed = torch.zeros_like(queries)
    for row, start, end in documents(layout):
        for h in range(mixer.n_heads):
            for i in range(start, end):
                found = set()
                for r in range(buckets.shape[-1]):
                    fellows = [j for j in range(start, end) if buckets[row, j, h, r] == buckets[row, i, h, r]]
                    at = fellows.index(i)
                    found |= {*fellows[max(0, at - mixer.window + 1) : at + (1 if layout.causal else mixer.window)]}
                seen = sorted(found - {i}) or [i]
                mixed[row, i, h] = (keys[row, seen, h] @ queries[row, i, h]).softmax(0) @ values[row, seen, h]
    return mixer.out(mixed.flatten(2))


@settings(max_examples=25, deadline=None)
@given(CONFIGS, layouts(longest=14))
def test_it_is_its_definition(config, layout):
    mixer, x = built(config), inputs(layout)
    real = slice(None) if layout.segments is None else layout.segments > 0
    torch.testing.assert_close(mixer(x, layout)[real], by_the_book(mixer, x, layout)[real], atol=2e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(layouts(longest=40), st.integers(1, 3))
def test_one_bucket_and_a_long_window_are_softmax_attention(layout, rounds):
    mixer, x = built(HashedAttentionConfig(n_heads=2, n_buckets=1, n_rounds=rounds, window=40)), inputs(layout)
    real = slice(None) if layout.segments is None else layout.segments > 0
    torch.testing.assert_close(mixer(x, layout)[real], mixer.exact(x, layout)[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_more_rounds_and_wider_windows_come_nearer_to_softmax_attention(causal):
    layout = SequenceLayout.rows(4, 60, causal=causal)
    x = inputs(layout)

    def error(**changes: int) -> float:
        config = HashedAttentionConfig(n_heads=2, **{"n_buckets": 8, "n_rounds": 1, "window": 8, **changes})
        return error_of(built(config, std=0.8), x, layout)

    by_rounds = [error(n_rounds=n) for n in (1, 4, 16)]
    by_window = [error(window=n, n_rounds=2) for n in (1, 4, 64)]
    by_buckets = [error(n_buckets=n, window=64) for n in (8, 2, 1)]
    for errors in (by_rounds, by_window, by_buckets):
        assert errors == sorted(errors, reverse=True), errors
    assert by_rounds[-1] < 0.2
    assert by_buckets[-1] < 1e-5


def test_hashes_bring_near_vectors_together_and_part_opposite_ones():
    hashes = built(HashedAttentionConfig(n_heads=1, head_dim=16, n_buckets=8, n_rounds=200)).hashes
    x, noise = normal(1, 50, 1, 16), normal(1, 50, 1, 16, seed=1)
    assert (hashes(x) == hashes(x + 0.05 * noise)).float().mean() > 0.85
    assert not (hashes(x) == hashes(-x)).any()
    far = (hashes(x) == hashes(noise)).float().mean()
    assert 0.05 < far < 0.25
    assert torch.equal(hashes(x), hashes(7 * x))


def test_a_bias_of_scores_is_refused():
    with pytest.raises(ConfigError, match=r"HashedAttentionConfig\.positions=.* RotaryConfig\(\) would do"):
        HashedAttentionConfig(n_heads=2, positions=AlibiConfig()).check_model(16, 8)
