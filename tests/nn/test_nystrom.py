"""Nyström attention against its equation document by document, and against softmax attention in the limit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.packed import built, documents, error_of, inputs, layouts, normal

from bloomery.core.errors import ConfigError
from bloomery.nn import NystromConfig, SequenceLayout
from bloomery.nn.nystrom import pseudo_inverse, stretches

CONVERGED = 40  # in double precision; far from the limit an inverse that is exact does harm, and the default does better


@settings(max_examples=30, deadline=None)
@given(layouts(causal=False), st.integers(1, 8), st.sampled_from([1, 2]))
def test_it_is_its_equation_for_each_document(layout, n_landmarks, n_kv_heads):
    mixer = built(NystromConfig(n_heads=2, n_kv_heads=n_kv_heads, n_landmarks=n_landmarks, n_iterations=CONVERGED)).double()
    x = inputs(layout).double()
    queries, keys, values = mixer.heads(x, layout)
    found = mixer(x, layout)
    for row, start, end in documents(layout):
        time, of_heads = end - start, []
        n = min(n_landmarks, time)
        parts = [[t for t in range(time) if t * n // time == s] for s in range(n)]
        for h in range(2):
            q = queries[row, start:end, h] / queries.shape[-1] ** 0.5
            k, v = (one[row, start:end, h * n_kv_heads // 2] for one in (keys, values))
            few_q, few_k = (torch.stack([one[part].mean(0) for part in parts]) for one in (q, k))
            first, among, last = (q @ few_k.T).softmax(-1), (few_q @ few_k.T).softmax(-1), (few_q @ k.T).softmax(-1)
            of_heads.append(first @ torch.linalg.pinv(among) @ last @ v)
        torch.testing.assert_close(found[row, start:end], mixer.out(torch.cat(of_heads, -1)), atol=2e-3, rtol=1e-3)


@settings(max_examples=20, deadline=None)
@given(layouts(causal=False, longest=30))
def test_as_many_landmarks_as_tokens_are_softmax_attention(layout):
    mixer, x = built(NystromConfig(n_heads=2, n_landmarks=30, n_iterations=CONVERGED), std=0.3).double(), inputs(layout).double()
    real = slice(None) if layout.segments is None else layout.segments > 0
    torch.testing.assert_close(mixer(x, layout)[real], mixer.exact(x, layout)[real], atol=1e-4, rtol=0)


def test_more_landmarks_come_nearer_to_softmax_attention():
    layout = SequenceLayout.rows(4, 60, causal=False)
    x, errors = inputs(layout).cumsum(1) / 4, []  # neighbours are alike
    for n in (1, 4, 16, 30, 60):
        mixer = built(NystromConfig(n_heads=2, n_landmarks=n), std=0.2)
        errors.append(error_of(mixer, x, layout))
    assert errors == sorted(errors, reverse=True), errors
    assert errors[0] > 0.1
    assert errors[-1] < 0.01


def test_the_iteration_inverts_what_can_be_inverted_and_leaves_zeros():
    a = torch.zeros(3, 6, 6)
    a[:, :4, :4] = (2 * normal(3, 4, 4)).softmax(-1)
    expected = torch.zeros_like(a)
    expected[:, :4, :4] = torch.linalg.inv(a[:, :4, :4])
    torch.testing.assert_close(pseudo_inverse(a, 30), expected, atol=1e-3, rtol=1e-3)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 6))
def test_stretches_share_out_all_tokens(lengths, most):
    weights = stretches(torch.tensor(lengths), max(lengths), most)
    for of_document, n in zip(weights, lengths, strict=True):
        used = of_document[: min(n, most)]
        assert not of_document[min(n, most) :].any()
        torch.testing.assert_close(used.sum(-1), torch.ones(len(used)))
        assert ((used > 0).sum(0)[:n] == 1).all()
        sizes = (used > 0).sum(-1)
        assert sizes.max() - sizes.min() <= 1


def test_it_cannot_read_forward():
    layout = SequenceLayout.rows(1, 5)
    with pytest.raises(ConfigError, match="causal=False"):
        built(NystromConfig(n_heads=2))(inputs(layout), layout)
