"""Positions, each against its equation, and against transformers where that has it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.nn import (
    AlibiConfig,
    AttentionConfig,
    LayerNormConfig,
    LearnedPlacesConfig,
    LinearScaling,
    Llama3Scaling,
    NoPlacesConfig,
    NoPositionsConfig,
    NTKScaling,
    PlainConfig,
    RopeScaling,
    RotaryConfig,
    SequenceLayout,
    Shared,
    SinusoidalPlacesConfig,
    YarnScaling,
)
from bloomery.nn.rope import Rope, frequencies

LENGTH = 64  # original length, in tokens
SCALINGS: dict[str, tuple[RopeScaling, dict[str, object]]] = {
    "linear": (LinearScaling(factor=3), {"rope_type": "linear", "factor": 3.0}),
    "llama3": (
        Llama3Scaling(factor=8, low_freq_factor=1, high_freq_factor=4, original_max_seq_len=LENGTH),
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": LENGTH},
    ),
    "yarn": (
        YarnScaling(factor=4, original_max_seq_len=LENGTH), {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": LENGTH}
    ),
    "yarn, every field": (
        YarnScaling(factor=5, original_max_seq_len=LENGTH, beta_fast=4, beta_slow=0.5, attention_factor=0.8, truncate=False),
        {
            "rope_type": "yarn", "factor": 5.0, "original_max_position_embeddings": LENGTH, "beta_fast": 4.0, "beta_slow": 0.5,
            "attention_factor": 0.8, "truncate": False,
        },
    ),
}  # fmt: skip


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def turned(theirs: torch.nn.Module, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    x = x.transpose(1, 2)
    return apply_rotary_pos_emb(x, x, *theirs(x, positions))[0].transpose(1, 2)


@pytest.mark.parametrize(("scaling", "plain"), SCALINGS.values(), ids=SCALINGS.keys())
@pytest.mark.parametrize(("head_dim", "theta"), [(16, 10_000.0), (64, 500_000.0), (6, 100.0)])
def test_a_scaled_rope_turns_as_that_of_transformers_also_beyond_the_original_length(scaling, plain, head_dim, theta):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(
        hidden_size=head_dim, num_attention_heads=1, max_position_embeddings=8 * LENGTH, rope_parameters={**plain, "rope_theta": theta},
    )
    positions, x = torch.arange(0, 8 * LENGTH, 7)[None], normal(1, 74, 2, head_dim)
    ours = RotaryConfig(theta=theta, scaling=scaling).rope(head_dim, 8 * LENGTH)
    assert positions.max() > 7 * LENGTH
    torch.testing.assert_close(ours(x, positions), turned(LlamaRotaryEmbedding(config), x, positions), atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [1.0, 2.0, 7.5])
def test_ntk_scaling_turns_as_the_dynamic_kind_of_transformers_at_the_length_that_it_fits(factor):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        hidden_size=16, num_attention_heads=1, max_position_embeddings=LENGTH, rope_parameters={"rope_type": "dynamic", "factor": 1.0},
    )
    theirs, magnitude = ROPE_INIT_FUNCTIONS["dynamic"](config, seq_len=int(factor * LENGTH))
    scaling = NTKScaling(factor=factor)
    torch.testing.assert_close(scaling.frequencies(10_000.0, 16, None), theirs)
    assert scaling.magnitude == magnitude == 1.0


def test_ntk_scaling_stretches_the_longest_wavelength_by_the_factor_and_the_shortest_not_at_all():
    ratio = frequencies(10_000.0, 32) / NTKScaling(factor=4).frequencies(10_000.0, 32, None)
    assert ratio[0].item() == 1.0
    assert ratio[-1].item() == pytest.approx(4.0, rel=1e-5)
    assert (ratio.diff() > 0).all()


@given(
    st.sampled_from([LinearScaling, NTKScaling, YarnScaling, Llama3Scaling]), st.floats(1, 64), st.integers(2, 32), st.floats(10, 1e6),
    st.integers(16, 4096),
)
@settings(max_examples=100, deadline=None)
def test_every_scaling_leaves_a_wavelength_or_stretches_it_up_to_the_factor(kind, factor, pairs, theta, length):
    original = {} if kind in (LinearScaling, NTKScaling) else {"original_max_seq_len": length}
    ratio = frequencies(theta, 2 * pairs) / kind(factor=factor, **original).frequencies(theta, 2 * pairs, None)
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < factor * (1 + 1e-4)
    if factor == 1:
        torch.testing.assert_close(ratio, torch.ones(pairs), atol=1e-5, rtol=0)


def test_yarn_keeps_what_turns_often_and_squeezes_what_turns_seldom():
    theta, width, scaling = 10_000.0, 64, YarnScaling(factor=4, original_max_seq_len=2048)
    omega = frequencies(theta, width)
    turns, ratio = 2048 * omega / (2 * math.pi), omega / scaling.frequencies(theta, width, None)
    torch.testing.assert_close(ratio[turns > 40], torch.ones(int((turns > 40).sum())))
    torch.testing.assert_close(ratio[turns < 0.7], torch.full((int((turns < 0.7).sum()),), 4.0))
    assert scaling.magnitude == pytest.approx(0.1 * math.log(4) + 1)


def test_a_magnitude_scales_what_is_turned():
    x, positions = normal(1, 3, 1, 8), torch.tensor([[0, 5, 9]])
    once, more = (RotaryConfig(scaling=YarnScaling(factor=2, original_max_seq_len=8, attention_factor=f)).rope(8, 16) for f in (1.0, 1.5))
    torch.testing.assert_close(more(x, positions), 1.5 * once(x, positions))


@pytest.mark.parametrize("scaling", [LinearScaling(factor=2), YarnScaling(factor=2, original_max_seq_len=16), Llama3Scaling()], ids=str)
def test_scaled_tables_follow_a_model_that_is_cast(scaling):
    rope = Rope(8, 32, 100.0, scaling)
    cos, sin = rope.cos.clone(), rope.sin.clone()
    rope.to(torch.bfloat16)
    assert torch.equal(rope.cos, cos)
    assert torch.equal(rope.sin, sin)


def test_a_share_of_each_head_is_turned_as_in_transformers():
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

    x, positions = normal(2, 5, 3, 20), torch.arange(5).expand(2, 5)
    config = transformers.PhiConfig(hidden_size=20, num_attention_heads=1, partial_rotary_factor=0.4)
    ours = RotaryConfig(share=0.4).rope(20, 16)(x, positions)
    torch.testing.assert_close(ours[..., :8], turned(PhiRotaryEmbedding(config), x[..., :8], positions), atol=1e-6, rtol=0)
    assert torch.equal(ours[..., 8:], x[..., 8:])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearScaling(factor=0.5), "LinearScaling.factor=0.5: input should be greater than or equal to 1"),
        (lambda: YarnScaling(factor=2), "YarnScaling.original_max_seq_len is missing; give it a value"),
        (
            lambda: YarnScaling(factor=2, original_max_seq_len=8, beta_slow=40),
            "YarnScaling.beta_slow=40.0 is not below beta_fast=32.0, and pairs that turn seldom are those that are squeezed; "
            "1 and 32 are usual",
        ),
        (
            lambda: Llama3Scaling(high_freq_factor=1),
            "Llama3Scaling.low_freq_factor=1.0 is not below high_freq_factor=1.0, and pairs that turn seldom are those that are squeezed; "
            "1 and 4 are usual",
        ),
        (
            lambda: RotaryConfig(theta=1, scaling=LinearScaling(factor=2)),
            "RotaryConfig.theta=1.0 gives no wavelengths of different lengths, which a scaling could stretch; 10000 is usual",
        ),
        (lambda: RotaryConfig(share=1.5), "RotaryConfig.share=1.5: input should be less than or equal to 1"),
        (
            lambda: model(AttentionConfig(n_heads=2, positions=RotaryConfig(share=0.25))),
            "AttentionConfig.n_heads=2 makes head_dim=12, which times share=0.25 are 3 features, and rotary positions turn pairs of them; "
            "share=0.16666666666666666 would do",
        ),
        (
            lambda: model(AttentionConfig(n_heads=2, head_dim=2, positions=RotaryConfig(scaling=NTKScaling(factor=2)))),
            "AttentionConfig.head_dim=2 turns one pair of features, which has no longest wavelength beside the shortest; 4 or more would do",
        ),
    ],
)
def test_positions_that_cannot_be_are_refused_with_a_remedy(build, message):
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def model(mixer: AttentionConfig, **parts: object) -> TransformerConfig:
    return TransformerConfig(
        vocab_size=61, d_model=24, n_layers=2, max_seq_len=32, mixers=(mixer,), feed_forwards=(PlainConfig(d_ff=96, activation="gelu_tanh"),),
        norm=LayerNormConfig(), **parts,
    )


@pytest.mark.parametrize("n_heads", [1, 2, 3, 4, 6, 12])
def test_alibi_gives_the_slopes_and_biases_of_bloom(n_heads):
    pytest.importorskip("transformers", reason="parity needs the transformers library")
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 9, dtype=torch.long), n_heads, torch.float32)  # slope · key, (heads, 1, keys)
    bias = AlibiConfig().bias(n_heads)
    torch.testing.assert_close(bias.slopes, theirs[:, 0, 1], atol=0, rtol=1e-6)
    ours, queries = bias(SequenceLayout.rows(1, 9).view)[0], torch.arange(9.0)
    seen = torch.ones(9, 9).tril().bool()
    expected = theirs - bias.slopes[:, None, None] * queries[:, None]  # they leave out what is the same for all keys of a query
    torch.testing.assert_close(ours[:, seen], expected[:, seen], atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_heads", [4, 6])
def test_the_open_transformer_with_alibi_is_bloom(n_heads):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    torch.manual_seed(0)
    theirs = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=61, hidden_size=24, n_layer=2, n_head=n_heads)).eval()
    for parameter in theirs.parameters():
        parameter.data = torch.randn(parameter.shape) * (0.5 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5)
    attention = AttentionConfig(n_heads=n_heads, positions=AlibiConfig(), qkv_bias=True, out_bias=True)
    ours = model(attention, embedding_norm=LayerNormConfig()).build(0)
    names = {
        "embedding": "word_embeddings", "embedding_norm": "word_embeddings_layernorm", "norm": "ln_f",
        **{f"blocks.{i}.{our}": f"h.{i}.{their}" for i in range(2) for our, their in (
            ("mixer_norm", "input_layernorm"), ("mixer.qkv", "self_attention.query_key_value"), ("mixer.out", "self_attention.dense"),
            ("ff_norm", "post_attention_layernorm"), ("ff.up", "mlp.dense_h_to_4h"), ("ff.down", "mlp.dense_4h_to_h"),
        )},
    }  # fmt: skip
    state = theirs.transformer.state_dict()
    for name, parameter in ours.named_parameters():
        path, _, kind = name.rpartition(".")
        tensor = state[f"{names[path]}.{kind}"]
        if path.endswith("qkv"):  # theirs has query, key and value of one head side by side
            tensor = tensor.unflatten(0, (n_heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        parameter.data = tensor
    ids = torch.randint(5, 61, (2, 21), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, SequenceLayout.rows(2, 21)), theirs(ids).logits, atol=1e-5, rtol=0)


def test_learned_places_are_rows_of_a_table_behind_its_offset():
    places, x = LearnedPlacesConfig(offset=2).build(6, max_seq_len=8), normal(1, 5, 6)
    layout = SequenceLayout.packed(torch.tensor([[1, 1, 1, 2, 2]]))
    assert torch.equal(places(x, layout)[0], x[0] + places.table.weight[[2, 3, 4, 2, 3]])
    assert places.table.weight.shape == (10, 6)


@pytest.mark.parametrize("d_model", [6, 7])
def test_sinusoidal_places_are_their_equation(d_model):
    places, layout = SinusoidalPlacesConfig().build(d_model, max_seq_len=50), SequenceLayout(torch.tensor([[0, 3, 49]]))
    added = places(torch.zeros(1, 3, d_model), layout)[0]
    for row, p in enumerate((0, 3, 49)):
        for j in range(d_model):
            angle = p * 10_000.0 ** (-2 * (j // 2) / d_model)
            assert added[row, j].item() == pytest.approx(math.cos(angle) if j % 2 else math.sin(angle), abs=1e-5)


def test_no_places_add_nothing():
    x = normal(1, 3, 4)
    assert NoPlacesConfig().build(4, 8)(x, SequenceLayout.rows(1, 3)) is x


def test_without_positions_nothing_but_causality_tells_places_apart():
    attention, x, order = AttentionConfig(n_heads=2, positions=NoPositionsConfig()).build(8, 8, Shared()), normal(1, 5, 8), [3, 0, 4, 1, 2]
    both_ways = SequenceLayout.rows(1, 5, causal=False)
    torch.testing.assert_close(attention(x[:, order], both_ways), attention(x, both_ways)[:, order], atol=1e-6, rtol=0)
    causal = SequenceLayout.rows(1, 5)
    swapped = attention(x[:, [1, 0, 2, 3, 4]], causal)  # the last sees the same tokens in another order
    torch.testing.assert_close(swapped[:, 2:], attention(x, causal)[:, 2:], atol=1e-6, rtol=0)
    rotary = AttentionConfig(n_heads=2).build(8, 8, Shared())
    assert (rotary(x[:, [1, 0, 2, 3, 4]], causal) - rotary(x, causal))[:, 2:].abs().max() > 1e-4
