"""Disentangled attention beside its equation; its buckets beside the published function."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.nn import DisentangledAttention, DisentangledConfig, LayerNormConfig, NormalInit, PlainConfig, SequenceLayout, Shared
from bloomery.nn.disentangled import distance_buckets
from bloomery.nn.init import initialise

D_MODEL = 12


@pytest.mark.parametrize(("n_buckets", "max_distance"), [(256, 512), (8, 64), (6, 5), (32, 1000)])
def test_distances_fall_into_the_buckets_of_the_published_function(n_buckets, max_distance):
    deberta = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2")
    distances = torch.arange(-2000, 2001)
    theirs = deberta.make_log_bucket_position(distances, n_buckets, max_distance).long()
    assert torch.equal(distance_buckets(distances, DisentangledConfig(n_heads=1, n_buckets=n_buckets, max_distance=max_distance)), theirs)


@given(st.integers(2, 60), st.integers(2, 600))
@settings(max_examples=40, deadline=None)
def test_farther_is_never_a_lower_bucket_and_both_directions_are_alike(middle, more):
    config = DisentangledConfig(n_heads=1, n_buckets=2 * middle, max_distance=middle + more)
    found = distance_buckets(torch.arange(config.max_distance), config)
    assert found[: middle + 1].tolist() == list(range(min(middle + 1, len(found))))
    assert (found.diff() >= 0).all()
    assert found.max() <= 2 * middle - 1
    assert torch.equal(distance_buckets(-torch.arange(config.max_distance), config), -found)


def by_the_book(module: DisentangledAttention, x: torch.Tensor) -> torch.Tensor:
    """One pair of places and one head at a time, of one row that is one document."""
    config, width = module.config, D_MODEL // module.config.n_heads
    queries, keys, values = module.qkv(x).chunk(3, dim=-1)
    table, maps = module.distances(), module.qkv if module.positions is None else module.positions
    weight, bias = maps.weight[: 2 * D_MODEL], maps.bias[: 2 * D_MODEL]  # of queries first, of keys last
    out = torch.zeros_like(x)
    for h in range(config.n_heads):
        features = slice(h * width, (h + 1) * width)
        scores = torch.empty(len(x), len(x))
        for i, j in product(range(len(x)), repeat=2):
            bucket = int(distance_buckets(torch.tensor(i - j), config))
            vector = table[min(max(bucket + config.span, 0), 2 * config.span - 1)]
            score = queries[i, features] @ keys[j, features]
            if config.terms != "position_to_content":
                score = score + queries[i, features] @ (weight[-D_MODEL:] @ vector + bias[-D_MODEL:])[features]
            if config.terms != "content_to_position":
                score = score + keys[j, features] @ (weight[:D_MODEL] @ vector + bias[:D_MODEL])[features]
            scores[i, j] = score / (width * (1 + config.n_terms)) ** 0.5
        out[:, features] = scores.softmax(-1) @ values[:, features]
    return module.out(out)


@pytest.mark.parametrize("terms", ["both", "content_to_position", "position_to_content"])
@pytest.mark.parametrize("shared_maps", [True, False])
@pytest.mark.parametrize("n_buckets", [None, 4])
def test_it_is_its_equation(terms, shared_maps, n_buckets):
    distances = {"n_buckets": n_buckets, "max_distance": 6, "table_norm": LayerNormConfig()}
    config = DisentangledConfig(n_heads=3, terms=terms, shared_maps=shared_maps, **distances)
    module = config.build(D_MODEL, 32, Shared())
    initialise(module, NormalInit(std=0.4), n_layers=1, seed=0)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.randn(1, 9, D_MODEL, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(module(x, SequenceLayout.rows(1, 9, causal=False))[0], by_the_book(module, x[0]), atol=1e-5, rtol=0)


def test_layers_share_the_vectors_of_distances():
    mixer = DisentangledConfig(n_heads=2, n_buckets=4, max_distance=16)
    config = TransformerConfig(vocab_size=9, d_model=8, n_layers=3, causal=False, mixers=(mixer,), feed_forwards=(PlainConfig(d_ff=8),))
    assert [name for name, _ in config.build(0).named_parameters() if "table" in name] == ["blocks.0.mixer.distances.table.weight"]


@pytest.mark.parametrize(("fields", "named"), [
    ({"n_buckets": 5}, "n_buckets=5 is odd"),
    ({"n_buckets": 32, "max_distance": 17}, "max_distance=17 is no farther"),
    ({"terms": "none"}, "terms"),
])  # fmt: skip
def test_values_that_cannot_be_are_refused(fields, named):
    with pytest.raises(ConfigError, match=named):
        DisentangledConfig(n_heads=2, **fields)


def test_models_that_it_does_not_fit_are_refused():
    parts = {"vocab_size": 9, "n_layers": 1, "feed_forwards": (PlainConfig(d_ff=8),), "mixers": (DisentangledConfig(n_heads=3),)}
    with pytest.raises(ConfigError, match="n_heads=3 does not divide d_model=8"):
        TransformerConfig(d_model=8, causal=False, **parts)
    with pytest.raises(ConfigError, match="causal=True forbids it"):
        TransformerConfig(d_model=9, **parts)
