from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Qwen3Config
from bloomery.models.hub_fields import shortest_cycle, windows_from_hub, windows_of, windows_to_hub
from bloomery.nn import LinearScaling, NTKScaling

TINY = Qwen3Config(vocab_size=50, d_model=24, n_layers=4, n_heads=4, n_kv_heads=2, max_seq_len=32)
FULL, LOCAL = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_heads": 5}, "Qwen3Config.n_heads=5 does not divide d_model=24; 4 or 6 would"),
        ({"n_kv_heads": 3}, "Qwen3Config.n_kv_heads=3 does not divide n_heads=4; 2 or 4 would"),
        ({"head_dim": 7}, "Qwen3Config.head_dim=7 is odd, and rotary positions turn pairs of features; 8 would do"),
        ({"windows": (4, None, None, 4, None)}, "Qwen3Config.windows=(4, None, None, 4, None) has 5 entries for n_layers=4; give no more than "
                                                "there are layers"),
        ({"windows": (4, 5)}, "Qwen3Config.windows=(4, 5) has 2 widths, and the family has one for all layers; a TransformerConfig takes any"),
        ({"windows": (4, None, 4, None)}, "Qwen3Config.windows=(4, None, 4, None) says no more than (4, None); give that"),
        ({"windows": (0,)}, "Qwen3Config.windows.0=0: input should be greater than 0"),
        ({"rope_theta": 0.5, "rope_scaling": LinearScaling(factor=2)}, "RotaryConfig.theta=0.5 gives no wavelengths of different lengths, "
                                                                       "which a scaling could stretch; 10000 is usual"),
        ({"head_dim": 2, "rope_scaling": NTKScaling(factor=2)}, "AttentionConfig.head_dim=2 turns one pair of features, which has no longest "
                                                                "wavelength beside the shortest; 4 or more would do"),
    ],
)  # fmt: skip
def test_impossible_sizes_are_refused_with_the_nearest_remedy(fields, message):
    with pytest.raises(ConfigError) as caught:
        TINY.replace(**fields)
    assert str(caught.value) == message


def test_queries_and_keys_are_normed_head_by_head():
    norm = TINY.build(0).mixers[0].qk_norm
    assert norm.query.weight.shape == norm.key.weight.shape == (6,)
    heads = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(heads), heads / (heads.square().mean(-1, keepdim=True) + 1e-6).sqrt())


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"use_sliding_window": False, "sliding_window": 5, "max_window_layers": 1}, (None,)),
        ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}, (None, None, 5, 5)),
        ({"use_sliding_window": True, "sliding_window": 5}, (None,)),  # the first 28 layers have none
        ({"use_sliding_window": True, "sliding_window": 5, "layer_types": [LOCAL, FULL] * 2, "max_window_layers": 0}, (5, None)),
        ({"use_sliding_window": True, "max_window_layers": 0}, (4096,)),
    ],
)
def test_windows_are_read_as_transformers_reads_them(changes, windows):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    ours = ("sliding_window", "layer_types", "use_sliding_window")
    plain = {name: value for name, value in TINY.to_hub().items() if name not in ours} | changes
    assert Qwen3Config.from_hub(plain).windows == windows
    theirs = transformers.Qwen3Config(**plain)
    assert theirs.layer_types == [FULL if window is None else LOCAL for window in windows_of(windows, 4)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": [FULL, "chunked_attention", FULL, FULL]}, "'chunked_attention' in its layer_types, which is not supported"),
        ({"layer_types": [FULL, LOCAL, FULL, LOCAL]}, "sliding_attention in its layer_types without a sliding_window"),
        ({"layer_types": [FULL]}, "layer_types of 1 layers and num_hidden_layers=4; make them agree"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu', which is not supported; a Qwen3Config is built with 'silu'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type='dynamic', which is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(changes, message):
    with pytest.raises(DataError, match=message):
        Qwen3Config.from_hub(TINY.to_hub() | changes)


def test_what_the_hub_leaves_out_is_taken_as_there():
    plain = {"vocab_size": 9, "hidden_size": 64, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 32}
    read = Qwen3Config.from_hub(plain)
    assert (read.n_kv_heads, read.head_dim, read.max_seq_len, read.norm_eps, read.tie_embeddings) == (32, 128, 32768, 1e-6, False)
    assert (read.rope_theta, read.windows, read.attention_bias) == (10_000.0, (None,), False)


@given(st.lists(st.sampled_from([None, 7]), min_size=1, max_size=12))
def test_windows_come_back_from_the_hub_in_fewest_words(layers):
    windows = shortest_cycle(layers)
    plain = windows_to_hub(windows, len(layers))
    assert windows_of(windows, len(layers)) == layers
    assert windows_from_hub(plain["layer_types"], plain["sliding_window"], len(layers)) == windows
    assert not [n for n in range(1, len(windows)) if windows_of(tuple(layers[:n]), len(layers)) == layers]
