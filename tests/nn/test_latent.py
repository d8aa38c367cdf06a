"""Latent attention beside its equation and transformers' module; its two orders of products beside each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bloomery.core.errors import ConfigError
from bloomery.nn import NormalInit, RMSNormConfig, RotaryConfig, SequenceLayout, Shared
from bloomery.nn.init import initialise
from bloomery.nn.latent import LatentAttention, LatentAttentionConfig

D_MODEL = 12


def build(config: LatentAttentionConfig, seed: int = 0) -> LatentAttention:
    mixer = config.build(D_MODEL, 64, Shared())
    initialise(mixer, NormalInit(std=0.4), n_layers=1, seed=seed)
    return mixer.eval()


def inputs(batch: int, time: int) -> torch.Tensor:
    return torch.randn(batch, time, D_MODEL, generator=torch.Generator().manual_seed(time))


@st.composite
def configs(draw) -> LatentAttentionConfig:
    return LatentAttentionConfig(
        n_heads=draw(st.integers(1, 3)), d_latent=draw(st.integers(1, 20)), d_query_latent=draw(st.none() | st.integers(1, 9)),
        head_dim=draw(st.integers(1, 7)), rope_dim=2 * draw(st.integers(1, 3)), value_dim=draw(st.integers(1, 7)),
        positions=RotaryConfig(theta=draw(st.sampled_from((7.0, 1e4)))), pairs=draw(st.sampled_from(("halves", "neighbours"))),
        norm=RMSNormConfig(eps=draw(st.sampled_from((1e-6, 0.1)))), scale=draw(st.none() | st.floats(0.1, 2.0)),
    )  # fmt: skip


def by_the_book(mixer: LatentAttention, config: LatentAttentionConfig, x: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Head by head, row by row, place by place."""
    positions = SequenceLayout.packed(segments).positions
    queries = mixer.query(x).unflatten(-1, (config.n_heads, -1))
    down = x @ mixer.down.weight.T
    latents, common = mixer.norm(down[..., : config.d_latent]), down[..., config.d_latent :]
    maps = mixer.up.weight.unflatten(0, (config.n_heads, -1))
    scale = config.scale or (config.head_dim + config.rope_dim) ** -0.5

    def turned(features: torch.Tensor, position: int) -> torch.Tensor:
        half = config.rope_dim // 2
        first, second = (features[:half], features[half:]) if config.pairs == "halves" else (features[0::2], features[1::2])
        angles = position * config.positions.theta ** (-torch.arange(half) / half)
        return torch.view_as_real(torch.complex(first, second) * torch.exp(1j * angles)).T.flatten()

    said = torch.zeros(*x.shape[:2], config.n_heads, config.value_dim)
    for row, time, head in [(r, t, h) for r in range(x.shape[0]) for t in range(x.shape[1]) for h in range(config.n_heads)]:
        past = [s for s in range(time + 1) if segments[row, s] == segments[row, time]]
        query, position = queries[row, time, head], int(positions[row, time])
        scores = []
        for s in past:
            key = maps[head, : config.head_dim] @ latents[row, s]
            placed = turned(query[config.head_dim :], position) @ turned(common[row, s], int(positions[row, s]))
            scores.append(scale * (query[: config.head_dim] @ key + placed))
        values = torch.stack([maps[head, config.head_dim :] @ latents[row, s] for s in past])
        said[row, time, head] = torch.stack(scores).softmax(0) @ values
    return said.flatten(2) @ mixer.out.weight.T


@settings(max_examples=20, deadline=None)
@given(config=configs(), seed=st.integers(0, 99))
def test_it_is_its_equation_on_packed_rows(config, seed):
    mixer, x = build(config, seed), inputs(2, 7)
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 2, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(
            mixer(x, SequenceLayout.packed(segments)), by_the_book(mixer, config, x, segments), atol=1e-5, rtol=1e-5
        )


@settings(max_examples=30, deadline=None)
@given(config=configs(), pieces=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_both_orders_of_the_products_agree(config, pieces):
    mixer, x = build(config), inputs(2, sum(pieces))
    results = []
    for folds in (False, True):
        mixer.folding_pays = lambda time, folds=folds: folds
        cache, start, read = mixer.new_cache(2, sum(pieces), x.dtype, x.device), 0, []
        with torch.no_grad():
            for n in pieces:
                read.append(mixer(x[:, start : start + n], SequenceLayout(torch.arange(start, start + n).expand(2, n)), cache))
                start += n
        results.append(torch.cat(read, 1))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pairs", ["halves", "neighbours"])
@pytest.mark.parametrize("d_query_latent", [None, 9])
def test_it_is_transformers_module(pairs, d_query_latent):
    pytest.importorskip("transformers")
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

    config = LatentAttentionConfig(n_heads=3, d_latent=10, d_query_latent=d_query_latent, head_dim=7, rope_dim=4, value_dim=5, pairs=pairs)
    ours, x = build(config), inputs(2, 17)
    plain = DeepseekV3Config(
        hidden_size=D_MODEL, num_attention_heads=3, num_key_value_heads=3, kv_lora_rank=10, q_lora_rank=d_query_latent, qk_nope_head_dim=7,
        qk_rope_head_dim=4, v_head_dim=5, rope_interleave=pairs == "neighbours", attn_implementation="eager",
    )  # fmt: skip
    theirs = DeepseekV3Attention(plain, layer_idx=0)
    names = {"kv_a_proj_with_mqa": "down", "kv_a_layernorm": "norm", "kv_b_proj": "up", "o_proj": "out", "q_proj": "query"}
    names |= {"q_a_proj": "query.down", "q_a_layernorm": "query.norm", "q_b_proj": "query.up"}
    weights = dict(ours.named_parameters())
    theirs.load_state_dict({name: weights[names[name.removesuffix(".weight")] + ".weight"].detach() for name in theirs.state_dict()})
    mask = torch.full((17, 17), -torch.inf).triu(1)[None, None]
    angles = DeepseekV3RotaryEmbedding(plain)(x, torch.arange(17)[None])
    expected, _ = theirs(x, angles, mask)
    actual = ours(x, SequenceLayout.rows(2, 17))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    actual.sin().sum().backward()
    expected.sin().sum().backward()
    for name, parameter in theirs.named_parameters():
        mine = weights[names[name.removesuffix(".weight")] + ".weight"].grad
        torch.testing.assert_close(mine, parameter.grad, atol=1e-5, rtol=1e-4)


def test_a_cache_holds_latents_and_common_keys_and_nothing_else():
    cache = build(LatentAttentionConfig(n_heads=8, d_latent=10, head_dim=16, rope_dim=4)).new_cache(3, 20, torch.float32, torch.device("cpu"))
    assert sum(slots.nbytes for slots in cache.slots) == 4 * 3 * 20 * (10 + 4)


@pytest.mark.parametrize("d_query_latent", [None, 9])
def test_operations_are_those_that_torch_counts(d_query_latent):
    config = LatentAttentionConfig(n_heads=3, d_latent=10, d_query_latent=d_query_latent, head_dim=7, rope_dim=4, value_dim=5)
    mixer, x, counter = build(config), inputs(2, 16), FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        mixer(x, SequenceLayout.rows(2, 16, causal=False))
    assert counter.get_total_flops() == 2 * 16 * config.flops(D_MODEL, 16, causal=False)


def test_the_order_that_costs_less_is_chosen_for_a_long_past():
    config, past = LatentAttentionConfig(n_heads=3, d_latent=40, head_dim=8, rope_dim=6), 60
    mixer = build(config)
    for time in range(1, 20):
        counts = {}
        for folds in (False, True):
            shapes = ((1, time, 3, 8), (1, time, 3, 6), (1, past, 40), (1, past, 6))
            placeless, placed, latents, keys = (torch.randn(shape) for shape in shapes)
            layout, counter = SequenceLayout(torch.full((1, time), past - 1)), FlopCounterMode(display=False)
            with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                (mixer.folded if folds else mixer.unfolded)(placeless, placed, latents, keys, layout.past_view)
            counts[folds] = counter.get_total_flops() - folds * 2 * time * 3 * 40 * (8 + 8)  # folding itself is nothing beside a long past
        assert mixer.folding_pays(time) == (counts[True] < counts[False])


def test_features_that_cannot_be_turned_in_pairs_are_refused():
    with pytest.raises(ConfigError, match=r"LatentAttentionConfig\.rope_dim=5 is odd"):
        LatentAttentionConfig(n_heads=2, d_latent=4, head_dim=8, rope_dim=5)
