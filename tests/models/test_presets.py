"""The presets have the sizes that their names say."""

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models import LlamaConfig
from bloomery.models.presets import PRESETS, preset

UNITS = {"m": 1e6, "b": 1e9}


@pytest.mark.parametrize("name", [n for n, c in PRESETS.items() if isinstance(c, LlamaConfig) and n[:-1].replace(".", "").isdigit()])
def test_a_size_in_a_name_is_the_number_of_parameters(name):
    said = float(name[:-1]) * UNITS[name[-1]]
    assert PRESETS[name].n_params == pytest.approx(said, rel=0.125)


def test_the_one_that_is_often_called_ten_billion_has_seven():
    config = preset("7b")
    assert (config.n_layers, config.d_model) == (32, 4096)
    assert config.n_params == 32 * (4 * 4096**2 + 3 * 4096 * 11_008 + 2 * 4096) + 2 * 50_304 * 4096 + 4096 == 6_888_361_984


PUBLISHED = {
    "gpt2": 124_439_808, "gpt2-xl": 1_557_611_200, "llama3-8b": 8_030_261_248, "mistral-7b": 7_241_732_096, "qwen3-0.6b": 596_049_920,
    "mixtral-8x7b": 46_702_792_704, "olmoe-1b-7b": 6_919_161_856, "mamba2-130m": 128_989_632, "bert-base": 109_514_298,
    "roberta-base": 124_697_433, "albert-base": 11_221_680, "t5-small": 60_506_624,
}  # fmt: skip
"""Parameters of the published checkpoints, with their language-model heads."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_as_many_parameters_as_published(name):
    assert preset(name).n_params == PUBLISHED[name]


def test_fifteen_billion_are_ten_with_more_layers():
    small, large = preset("10b"), preset("15b")
    assert small.replace(n_layers=46) == large
    assert (small.n_params / 1e9, large.n_params / 1e9) == (pytest.approx(10, rel=0.005), pytest.approx(15, rel=0.005))


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no preset '8b'; did you mean '.*b'\?"):
        preset("8b")
    with pytest.raises(ConfigError, match=r"no preset 'enormous'; those that are, are 1m, 6m"):
        preset("enormous")
