"""Grouping key-value heads: exact where the heads of a group are alike, by the mean or the first where not."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig, Mamba2ModelConfig
from bloomery.models.growth import GroupHeads, difference
from bloomery.nn import (
    AlibiConfig,
    Attention,
    AttentionConfig,
    FanInInit,
    LinearAttentionConfig,
    NoPositionsConfig,
    RMSNormConfig,
    RotaryConfig,
)

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


PLAIN = OPEN.replace(mixers=(AttentionConfig(n_heads=8, qkv_bias=True), AttentionConfig(n_heads=8, positions=NoPositionsConfig(), window=9)))


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("config", [LLAMA, PLAIN])
def test_components_keep_what_heads_that_are_alike_but_turned_do_in_whichever_order_they_stand(config, n_kv_heads):
    model, group = alike(trained(config), 8 // n_kv_heads), 8 // n_kv_heads
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, Attention):
            turn(module, generator)
            reorder(module, [head for start in range(group) for head in range(start, 8, group)])
    _, new = GroupHeads(n_kv_heads=n_kv_heads, by="components").apply(config, model)
    assert difference(model, new) <= 1e-5
    _, pooled = GroupHeads(n_kv_heads=n_kv_heads, by="mean").apply(config, model)
    assert difference(model, pooled) > 1e-2


def turn(mixer: Attention, generator: torch.Generator) -> None:
    """Another basis for each head's keys (a complex number for each rotary pair) and values, the function as it was."""
    width, rows = mixer.head_dim, [mixer.qkv.weight.data] + ([] if mixer.qkv.bias is None else [mixer.qkv.bias.data[:, None]])
    for head in range(mixer.n_heads):
        phase = torch.polar(torch.rand(width // 2, 1, generator=generator) + 0.5, 6 * torch.rand(width // 2, 1, generator=generator))
        basis = torch.randn(width, width, generator=generator) + 3 * torch.eye(width)
        for x in rows:
            of_query, of_key, of_value = (x.view(3, mixer.n_heads, width, -1)[i, head] for i in range(3))
            for part, factor in ((of_query, 1 / phase.conj()), (of_key, phase)):
                turned = torch.complex(*part.chunk(2)) * factor
                part.copy_(torch.cat((turned.real, turned.imag)))
            of_value.copy_(basis @ of_value)
        columns = mixer.out.weight.data.unflatten(1, (-1, width))[:, head]
        columns.copy_(columns @ torch.linalg.inv(basis))


def reorder(mixer: Attention, order: list[int]) -> None:
    """The heads in another order, the function as it was."""
    for rows in filter(lambda rows: rows is not None, (mixer.qkv.weight.data, getattr(mixer.qkv.bias, "data", None))):
        heads = rows.unflatten(0, (3, mixer.n_heads, -1))
        heads.copy_(heads[:, order].clone())
    columns = mixer.out.weight.data.unflatten(1, (mixer.n_heads, -1))
    columns.copy_(columns[:, order].clone())


def test_components_lose_less_than_the_mean_and_that_less_than_the_first():
    model = trained(LLAMA)
    off = {by: difference(model, GroupHeads(n_kv_heads=2, by=by).apply(LLAMA, model)[1]) for by in ("components", "mean", "first")}
    assert off["components"] < off["mean"] < off["first"]


@pytest.mark.parametrize("mixer", [
    AttentionConfig(n_heads=8, qk_norm=RMSNormConfig()), AttentionConfig(n_heads=8, positions=AlibiConfig()),
    AttentionConfig(n_heads=8, positions=RotaryConfig(share=0.5)),
])  # fmt: skip
def test_components_are_refused_where_heads_may_not_be_turned_or_reordered(mixer):
    with pytest.raises(ConfigError, match=r"GroupHeads.by='components' turns and reorders heads"):
        GroupHeads(n_kv_heads=2, by="components").config_of(OPEN.replace(mixers=(mixer,)))


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
