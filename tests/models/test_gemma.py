from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Gemma2Config, Gemma3Config, GemmaConfig
from bloomery.nn import LinearScaling, RMSNormConfig, SequenceLayout

SIZES = {"vocab_size": 50, "d_model": 24, "n_heads": 4, "d_ff": 32, "max_seq_len": 64}
ONE, TWO, THREE = GemmaConfig(**SIZES, n_layers=2), Gemma2Config(**SIZES, n_layers=4), Gemma3Config(**SIZES, n_layers=12)
FULL, LOCAL = "full_attention", "sliding_attention"


def test_the_factor_of_norms_is_1_plus_w_and_starts_at_1():
    norm, x = RMSNormConfig(eps=0.1, around_one=True).build(6), torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    norm.weight.data = torch.linspace(-1, 1, 6)
    torch.testing.assert_close(norm(x), (1 + norm.weight) * x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt())
    assert all(not parameter.any() for name, parameter in ONE.build(0).named_parameters() if "norm" in name)


def test_in_half_precision_a_small_w_is_not_lost():
    norm, wide = RMSNormConfig(around_one=True).build(256).bfloat16(), RMSNormConfig(around_one=True).build(256)
    norm.weight.data, wide.weight.data = torch.full((256,), 2**-8).bfloat16(), torch.full((256,), 2**-8)
    x = torch.randn(256, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(norm(x), wide(x.float()).bfloat16())


def test_embeddings_are_scaled_by_a_number_of_the_models_precision():
    layout, ids = SequenceLayout.rows(1, 5), torch.arange(5)[None]
    for dtype in (torch.float32, torch.bfloat16):
        model = ONE.build(0).to(dtype)
        expected = model.embedding(ids) * torch.tensor(24**0.5).to(dtype)
        assert torch.equal(model.embed(ids, layout), expected)
    assert torch.tensor(24**0.5).bfloat16().item() == 4.90625  # rather than 4.898979…


def test_layers_within_a_window_take_turns_with_those_that_see_all():
    assert [TWO.transformer.mixer(i).window for i in range(4)] == [4096, None, 4096, None]
    assert [THREE.transformer.mixer(i).window for i in range(12)] == ([512] * 5 + [None]) * 2
    assert THREE.replace(n_layers=3).windows == (512,)
    assert TWO.replace(n_layers=1).windows == (4096,)
    assert [THREE.transformer.mixer(i).positions.theta for i in (0, 5)] == [10_000.0, 1_000_000.0]


def test_the_cycle_of_layers_is_read_where_transformers_reads_it():
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    for config, windows in ((TWO, (4096, None)), (THREE, (512, 512, None))):
        plain = {name: value for name, value in config.to_hub().items() if name != "layer_types"} | {"sliding_window_pattern": 3}
        assert type(config).from_hub(plain).windows == windows
        types = getattr(transformers, config.hub_architecture).config_class(**plain).layer_types
        assert types == [FULL if windows[i % len(windows)] is None else LOCAL for i in range(config.n_layers)]


def test_only_layers_that_see_all_are_stretched():
    config = THREE.replace(rope_scaling=LinearScaling(factor=8))
    assert [config.transformer.mixer(i).positions.scaling for i in (0, 5)] == [None, LinearScaling(factor=8)]


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"rope_theta": 5e5, "rope_local_base_freq": 2e4}, (5e5, 2e4, None)),
        ({"rope_theta": 5e5, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}, (5e5, 1e4, LinearScaling(factor=8))),
        ({"rope_parameters": {FULL: {"rope_type": "default", "rope_theta": 3e5}}}, (3e5, 1e4, None)),
        ({"rope_parameters": {FULL: {"rope_type": "linear", "factor": 8.0}, LOCAL: {"rope_theta": 3e4}}}, (1e6, 3e4, LinearScaling(factor=8))),
        ({}, (1e6, 1e4, None)),
    ],
)
def test_both_thetas_are_read_from_either_version_as_transformers_reads_them(changes, read):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    rotary = ("rope_theta", "rope_local_base_freq", "rope_parameters")
    plain = {name: value for name, value in THREE.to_hub().items() if name not in rotary} | changes
    config = Gemma3Config.from_hub(plain)
    assert (config.rope_theta, config.local_rope_theta, config.rope_scaling) == read
    theirs = transformers.Gemma3TextConfig(**plain).rope_parameters
    assert (theirs[FULL]["rope_theta"], theirs[LOCAL]["rope_theta"]) == read[:2]
    assert theirs[FULL]["rope_type"] == ("default" if read[2] is None else "linear")


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (ONE, {"hidden_act": "silu"}, "hidden_act='silu', which is not supported; a GemmaConfig is built with 'gelu_pytorch_tanh'"),
        (ONE, {"use_bidirectional_attention": True}, "use_bidirectional_attention=True, which is not supported"),
        (TWO, {"hidden_activation": "gelu"}, "hidden_activation='gelu', which is not supported"),
        (THREE, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0, which is not supported"),
        (THREE, {"rope_parameters": {"rope_type": "default"}}, "'rope_type' in its rope_parameters, where this family has"),
        (THREE, {"rope_parameters": {LOCAL: {"rope_type": "linear", "factor": 2.0}}}, "rope_type='linear' for sliding_att"),
        (THREE, {"sliding_window": None}, "sliding_attention in its layer_types without a sliding_window"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(config, changes, message):
    with pytest.raises(DataError, match=message):
        type(config).from_hub(config.to_hub() | changes)


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (TWO, {"windows": (4, 8)}, "Gemma2Config.windows=(4, 8) has 2 widths, and the family has one for all layers"),
        (TWO, {"attention_softcap": 0.0}, "Gemma2Config.attention_softcap=0.0: input should be greater than 0"),
        (THREE, {"attention_softcap": 50.0}, "Gemma3Config has no field 'attention_softcap'; did you mean 'attention_bias'?"),
        (ONE, {"windows": (4,)}, "GemmaConfig has no field 'windows'"),
        (ONE, {"head_dim": 5}, "GemmaConfig.head_dim=5 is odd, and rotary positions turn pairs of features; 6 would do"),
    ],
)
def test_impossible_sizes_are_refused(config, fields, message):
    with pytest.raises(ConfigError) as caught:
        config.replace(**fields)
    assert str(caught.value).startswith(message)


def test_the_first_release_means_the_approximation_by_gelu():
    assert GemmaConfig.from_hub(ONE.to_hub() | {"hidden_act": "gelu", "hidden_activation": None}) == ONE


@pytest.mark.parametrize("config", [TWO, THREE], ids=["gemma2", "gemma3"])
def test_what_the_hub_leaves_out_is_taken_as_there(config):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    sizes = {"vocab_size": 9, "hidden_size": 64, "intermediate_size": 8, "num_hidden_layers": 7, "num_attention_heads": 4}
    read, theirs = type(config).from_hub(sizes), getattr(transformers, config.hub_architecture).config_class(**sizes)
    ours = read.to_hub()
    for name in (
        "num_key_value_heads", "head_dim", "rms_norm_eps", "query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping",
        "layer_types", "sliding_window", "tie_word_embeddings", "max_position_embeddings", "rope_parameters",
    ):
        assert ours[name] == getattr(theirs, name), name
