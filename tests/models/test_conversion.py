"""Grouping key-value heads: exact where the heads of a group are alike, by the mean or the first where not."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig, Mamba2ModelConfig
from bloomery.models.growth import GroupHeads, difference
from bloomery.nn import Attention, AttentionConfig, FanInInit, LinearAttentionConfig, RMSNormConfig

LLAMA = LlamaConfig(vocab_size=61, d_model=32, n_layers=2, n_heads=8, d_ff=48, max_seq_len=64, init=FanInInit(embedding=0.5))
OPEN = LLAMA.transformer
BIASED = OPEN.replace(mixers=(AttentionConfig(n_heads=8, qkv_bias=True, qk_norm=RMSNormConfig()), LinearAttentionConfig(n_heads=4)))


def trained(config):
    model = config.build(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def key_values(mixer: Attention, rows: torch.Tensor) -> torch.Tensor:
    """Views of the keys' and values' rows: (2, n_kv_heads, head_dim, …)."""
    return rows[mixer.n_heads * mixer.head_dim :].unflatten(0, (2, mixer.n_kv_heads, mixer.head_dim))


def alike(model, group: int):
    """The model with the key-value heads of each group made copies of its second one."""
    for module in model.modules():
        if isinstance(module, Attention):
            for rows in filter(lambda rows: rows is not None, (module.qkv.weight.data, getattr(module.qkv.bias, "data", None))):
                heads = key_values(module, rows).unflatten(1, (-1, group))
                heads.copy_(heads[:, :, 1:2].clone().expand_as(heads))
    return model


@pytest.mark.parametrize("by", ["mean", "first"])
@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("config", [LLAMA, BIASED, LLAMA.replace(tie_embeddings=False)])
def test_heads_that_are_alike_are_grouped_exactly(config, n_kv_heads, by):
    model = alike(trained(config), 8 // n_kv_heads)
    new_config, new = GroupHeads(n_kv_heads=n_kv_heads, by=by).apply(config, model)
    assert new.config == new_config
    assert new.blocks[0].mixer.n_kv_heads == n_kv_heads
    assert difference(model, new) <= 1e-6


def test_a_group_becomes_its_mean_or_its_first_head():
    model = trained(LLAMA)
    old = model.blocks[1].mixer
    for by, wanted in (("mean", lambda heads: heads.mean(2)), ("first", lambda heads: heads[:, :, 0])):
        _, new = GroupHeads(n_kv_heads=2, by=by).apply(LLAMA, model)
        mixer = new.blocks[1].mixer
        torch.testing.assert_close(key_values(mixer, mixer.qkv.weight), wanted(key_values(old, old.qkv.weight).unflatten(1, (2, 4))))
        assert torch.equal(mixer.qkv.weight[:32], old.qkv.weight[:32])
        assert torch.equal(mixer.out.weight, old.out.weight)
        assert difference(model, new) > 1e-3


def test_in_two_steps_as_in_one():
    model = trained(LLAMA)
    _, at_once = GroupHeads(n_kv_heads=2).apply(LLAMA, model)
    config, halfway = GroupHeads(n_kv_heads=4).apply(LLAMA, model)
    _, then = GroupHeads(n_kv_heads=2).apply(config, halfway)
    for one, two in zip(at_once.parameters(), then.parameters(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LLAMA.replace(n_kv_heads=4), r"GroupHeads.n_kv_heads=3 cannot be made of n_kv_heads=4 in equal groups; possible: 1, 2"),
        (OPEN.replace(mixers=(LinearAttentionConfig(n_heads=4),)), r"finds no key-value heads in a model of LinearAttentionConfig"),
        (OPEN.replace(mixers=(AttentionConfig(n_heads=9, head_dim=4, qk_norm=RMSNormConfig(), qk_norm_over="all"),)), r"qk_norm_over='all'"),
        (Mamba2ModelConfig(vocab_size=61, d_model=32, n_layers=2), r"finds no key-value heads"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_planned(config, words):
    with pytest.raises(ConfigError, match=words):
        GroupHeads(n_kv_heads=3).config_of(config)
