"""Cross-attention beside its equation, on any mask; and what a cache keeps of a passage."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.nn import CrossAttention, CrossAttentionConfig, Memory, NormalInit, View
from bloomery.nn.cache import PlacedCache
from bloomery.nn.cross import PassageCache
from bloomery.nn.init import initialise

D_MODEL = 12


def build(config: CrossAttentionConfig) -> CrossAttention:
    config.check_model(D_MODEL)
    module = config.build(D_MODEL)
    initialise(module, NormalInit(std=0.4), n_layers=1, seed=0)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(len(name)))
    return module


def by_the_book(module: CrossAttention, config: CrossAttentionConfig, x, memory, mask) -> torch.Tensor:
    """One token and one head at a time."""
    width, group = module.head_dim, config.n_heads // config.n_kv_heads
    keys, values = module.kv(memory).chunk(2, dim=-1)
    queries, out = module.query(x), torch.zeros(*x.shape[:2], config.n_heads * width)
    for b, t, h in torch.cartesian_prod(*(torch.arange(n) for n in (*x.shape[:2], config.n_heads))).tolist():
        own, shared = slice(h * width, (h + 1) * width), slice(h // group * width, (h // group + 1) * width)
        seen = mask[b, 0, t]
        if seen.any():
            scores = keys[b, seen][:, shared] @ queries[b, t, own] * (config.scale or width**-0.5)
            out[b, t, own] = scores.softmax(0) @ values[b, seen][:, shared]
    return module.out(out)


@given(st.integers(0, 10_000), st.sampled_from([(4, 4, None, None), (4, 2, 5, 0.3), (3, 1, 2, 1.0)]), st.booleans(), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_it_is_its_equation_on_any_mask(seed, shape, bias, source):
    n_heads, n_kv_heads, head_dim, scale = shape
    config = CrossAttentionConfig(n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=head_dim, scale=scale, qkv_bias=bias, out_bias=bias)
    module, generator = build(config), torch.Generator().manual_seed(seed)
    x, memory = (torch.randn(2, n, D_MODEL, generator=generator) for n in (4, source))
    mask = torch.rand(2, 1, 4, source, generator=generator) < 0.5
    view = View(torch.arange(4)[None], torch.arange(source)[None], mask)
    torch.testing.assert_close(module(x, Memory(memory, view)), by_the_book(module, config, x, memory, mask), atol=1e-5, rtol=0)


def test_a_token_that_sees_nothing_takes_nothing_and_leaves_gradients_finite():
    module = build(CrossAttentionConfig(n_heads=3))
    x, memory = torch.randn(1, 2, D_MODEL, requires_grad=True), torch.randn(1, 3, D_MODEL, requires_grad=True)
    mask = torch.tensor([[[[True, True, False], [False, False, False]]]])
    out = module(x, Memory(memory, View(torch.arange(2)[None], torch.arange(3)[None], mask)))
    assert torch.equal(out[0, 1], torch.zeros(D_MODEL))
    out.sum().backward()
    assert x.grad is not None
    assert memory.grad is not None
    assert x.grad.isfinite().all()
    assert memory.grad.isfinite().all()
    assert torch.equal(memory.grad[0, 2], torch.zeros(D_MODEL))


def empty_cache(batch: int) -> PassageCache:
    return PassageCache(PlacedCache.empty(batch, 4, ((1, 2), (1, 2)), torch.float32, torch.device("cpu")))


@pytest.mark.parametrize("masked", [False, True])
def test_a_cache_has_the_passage_and_goes_on_with_some_of_its_rows(masked):
    module, generator = build(CrossAttentionConfig(n_heads=3)), torch.Generator().manual_seed(0)
    x, features = torch.randn(3, 1, D_MODEL, generator=generator), torch.randn(3, 5, D_MODEL, generator=generator)
    mask = (torch.arange(5) < torch.tensor([5, 2, 3])[:, None])[:, None, None] if masked else None
    memory = Memory(features, View(torch.zeros(3, 1, dtype=torch.long), torch.arange(5)[None], mask))
    cache = empty_cache(3)
    whole = module(x, memory, cache)
    assert torch.equal(whole, module(x, memory))
    assert torch.equal(whole, module(x, None, cache))
    assert torch.equal(whole[[2, 0]], module(x[[2, 0]], None, cache.select(torch.tensor([2, 0]))))


def test_a_decoder_without_a_passage_says_so():
    module = build(CrossAttentionConfig(n_heads=3))
    for cache in (None, empty_cache(1), empty_cache(2).select(torch.tensor([0]))):
        with pytest.raises(ConfigError, match="no passage"):
            module(torch.randn(1, 1, D_MODEL), None, cache)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="n_kv_heads=3 does not divide n_heads=4; 2 or 4"):
        CrossAttentionConfig(n_heads=4, n_kv_heads=3)
    with pytest.raises(ConfigError, match="n_heads=5 does not divide d_model=12; 4 or 6"):
        CrossAttentionConfig(n_heads=5).check_model(D_MODEL)
