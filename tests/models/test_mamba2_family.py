"""What a hub config of a Mamba-2 may say, and what is refused by name; answers of many prompts at once. Parity is in `test_parity.py`."""

from __future__ import annotations

import math

import pytest

import bloomery.generate.decode as decode
from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Mamba2ModelConfig
from bloomery.nn import FanInInit, Mamba2Config

TINY = Mamba2ModelConfig(
    vocab_size=50, d_model=24, n_layers=2, mamba=Mamba2Config(head_dim=8, d_state=6, chunk=4), max_seq_len=64, init=FanInInit(embedding=1.0)
)
PUBLISHED = {
    "model_type": "mamba2", "vocab_size": 50_288, "hidden_size": 768, "num_hidden_layers": 24, "num_heads": 24, "head_dim": 64, "expand": 2,
    "state_size": 128, "n_groups": 1, "conv_kernel": 4, "use_conv_bias": True, "use_bias": False, "layer_norm_epsilon": 1e-5,
    "chunk_size": 256, "tie_word_embeddings": True, "hidden_act": "silu",
}  # fmt: skip


def test_the_published_sizes_have_the_published_number_of_parameters():
    assert Mamba2ModelConfig.from_hub(PUBLISHED).n_params == 128_989_632


@pytest.mark.parametrize(("limit", "read"), [
    (None, None), ([0.0, math.inf], None), ([0.0, {"__float__": "Infinity"}], None), ([0.01, 0.5], (0.01, 0.5)),
    ([0.01, {"__float__": "Infinity"}], (0.01, math.inf)),
], ids=str)  # fmt: skip
def test_limits_of_steps_are_read_as_either_version_writes_them(limit, read):
    assert Mamba2ModelConfig.from_hub(PUBLISHED | {"time_step_limit": limit}).mamba.dt_limit == read


@pytest.mark.parametrize(("change", "message"), [
    ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    ({"num_heads": 32}, "num_heads=32 times head_dim=64, which is not expand=2 times hidden_size=768"),
])  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(change, message):
    with pytest.raises(DataError, match=message):
        Mamba2ModelConfig.from_hub(PUBLISHED | change)


def test_a_config_without_sizes_is_refused_by_name():
    with pytest.raises(DataError, match="no 'state_size'"):
        Mamba2ModelConfig.from_hub({name: value for name, value in PUBLISHED.items() if name != "state_size"})


def test_heads_that_do_not_fit_are_refused_when_the_config_is_built():
    with pytest.raises(ConfigError, match=r"Mamba2Config\.head_dim=64 does not divide expand · d_model = 2 · 24 = 48"):
        TINY.replace(mamba=Mamba2Config())


def test_many_prompts_at_once_are_answered_as_each_alone(monkeypatch):
    monkeypatch.setattr(decode, "PREFILL", 4)  # so that some rows end pieces before the others
    model = TINY.build(seed=3)
    prompts = [[5, 6, 7], [8] * 11, [9, 10, 11, 12, 13, 14], [20]]
    alone = [list(decode.stream(model, prompt, decode.Greedy(), stop_ids=(), max_new_tokens=6, seed=0)) for prompt in prompts]
    assert decode.complete(model, prompts, stop_ids=(), max_new_tokens=6) == alone
    assert len({*map(tuple, alone)}) == 4
