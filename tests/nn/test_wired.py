"""The circuits that `WiredInit` lays down work before any training."""

import pytest
import torch

from bloomery.models import LlamaConfig
from bloomery.nn import NormalInit, SequenceLayout, WiredInit

CONFIG = LlamaConfig(vocab_size=200, d_model=128, n_layers=2, n_heads=4, d_ff=64, max_seq_len=256, init=WiredInit(embedding=0.1))


def attention(model, tokens, layer: int, head: int) -> torch.Tensor:
    """Attention weights of one head, (time, time)."""
    layout = SequenceLayout.rows(1, tokens.shape[1])
    seen = []
    mixer = model.blocks[layer].mixer
    hook = mixer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model.features(tokens, layout)
    hook.remove()
    heads = mixer.qkv(seen[0]).unflatten(-1, (-1, mixer.head_dim))
    turned = mixer.rope(heads[:, :, : mixer.n_heads + mixer.n_kv_heads], layout.positions)
    key = mixer.n_heads + head * mixer.n_kv_heads // mixer.n_heads
    scores = turned[0, :, head] @ turned[0, :, key].T / mixer.head_dim**0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(-1)


@torch.no_grad()
def test_one_head_sees_the_previous_token():
    tokens = torch.randint(0, 200, (1, 120), generator=torch.Generator().manual_seed(1))
    weights = attention(CONFIG.build(seed=0), tokens, layer=0, head=0)
    assert weights.diagonal(offset=-1).min() > 0.8


@torch.no_grad()
def test_another_sees_the_one_before_that():
    tokens = torch.randint(0, 200, (1, 120), generator=torch.Generator().manual_seed(1))
    weights = attention(CONFIG.build(seed=0), tokens, layer=0, head=1)
    assert weights.diagonal(offset=-2).min() > 0.8


@torch.no_grad()
def test_one_head_finds_where_the_token_two_back_stood_before():
    order = torch.randperm(200, generator=torch.Generator().manual_seed(4))[:60]
    tokens = torch.cat([order, order])[None]
    weights = attention(CONFIG.build(seed=0), tokens, layer=1, head=2)
    asked = tokens[0, 60 - 2 : 120 - 2, None]  # two back of the second half
    found = weights[60:] * (asked == tokens[0])
    assert found.sum(-1).mean() > 0.5


@torch.no_grad()
@pytest.mark.parametrize(("n_heads", "n_kv_heads", "d_model"), [(4, 2, 128), (4, 1, 128), (8, 4, 64), (3, 3, 96)])
def test_circuits_go_as_far_as_there_is_room(n_heads, n_kv_heads, d_model):
    model = CONFIG.replace(n_heads=n_heads, n_kv_heads=n_kv_heads, d_model=d_model).build(seed=0)
    tokens = torch.randint(0, 200, (1, 60), generator=torch.Generator().manual_seed(1))
    assert attention(model, tokens, layer=0, head=0).diagonal(offset=-1).min() > 0.5
    assert model(tokens, SequenceLayout.rows(1, 60)).isfinite().all()


@torch.no_grad()
def test_one_head_finds_what_followed_the_last_time():
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))[:60]
    tokens = torch.cat([order, order])[None]  # each token of the second half stood 60 places before; what followed, 59 places before
    weights = attention(CONFIG.build(seed=0), tokens, layer=1, head=0)
    found = weights[60:119].argmax(-1) == torch.arange(1, 60)
    assert found.float().mean() > 0.8


@torch.no_grad()
def test_one_head_finds_the_same_token():
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))[:60]
    tokens = torch.cat([order, order])[None]
    weights = attention(CONFIG.build(seed=0), tokens, layer=1, head=1)
    same = weights[60:] * (tokens[0, 60:, None] == tokens[0])
    assert same.sum(-1).mean() > 0.5


@torch.no_grad()
def test_without_wiring_no_head_does():
    model = CONFIG.replace(init=NormalInit()).build(seed=0)
    tokens = torch.randint(0, 200, (1, 120), generator=torch.Generator().manual_seed(1))
    assert all(attention(model, tokens, 0, head).diagonal(offset=-1)[10:].mean() < 0.3 for head in range(4))


def test_same_seed_same_weights():
    one, two, other = (dict(CONFIG.build(seed).named_parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["blocks.1.mixer.qkv.weight"], other["blocks.1.mixer.qkv.weight"])
