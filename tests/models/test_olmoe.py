"""What OLMoE refuses, and what it reads from a `config.json`; its numbers are tested in `test_parity.py`."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from tests.models.cases import OLMOE
from tests.models.fields import ignored, silent

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import OlmoeConfig


def test_no_field_that_changes_numbers_is_ignored():
    assert not ignored(OLMOE, {"head_dim"})  # the library's OLMoE has none


def test_fields_that_are_not_given_are_those_of_the_library():
    ours, theirs = silent(OLMOE)
    assert ours == theirs
    assert (ours.n_experts, ours.n_active, ours.renormalise) == (64, 8, False)


def test_a_config_of_olmoe_1b_7b_has_its_published_size():
    config = OlmoeConfig(
        vocab_size=50304, d_model=2048, n_layers=16, n_heads=16, d_ff=1024, n_experts=64, n_active=8, tie_embeddings=False
    )
    assert round(config.n_params / 1e9, 1) == 6.9
    assert round(config.n_active_params / 1e9, 1) == 1.3


@pytest.mark.parametrize(("fields", "message"), [
    ({"n_active": 6}, r"OlmoeConfig\.n_active=6 is more than n_experts=5"),
    ({"head_dim": 8}, r"OlmoeConfig\.head_dim=8 is not d_model / n_heads = 6"),
])  # fmt: skip
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        OLMOE.replace(**fields)


def test_clipped_queries_keys_and_values_are_refused():
    with pytest.raises(DataError, match=r"clip_qkv=8\.0, which is not supported"):
        OlmoeConfig.from_hub(OLMOE.to_hub() | {"clip_qkv": 8.0})
