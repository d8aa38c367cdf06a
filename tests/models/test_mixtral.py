"""What Mixtral refuses, and what it reads from a `config.json`; its numbers are tested in `test_parity.py`."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from tests.models.cases import MIXTRAL
from tests.models.fields import ignored, silent

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import MixtralConfig


def test_no_field_that_changes_numbers_is_ignored():
    assert not ignored(MIXTRAL, set())


def test_fields_that_are_not_given_are_those_of_the_library():
    ours, theirs = silent(MIXTRAL)
    assert ours == theirs
    assert (ours.rope_theta, ours.n_kv_heads, ours.n_experts, ours.n_active) == (1e6, 8, 8, 2)


def test_a_config_of_mixtral_8x7b_has_its_published_size():
    config = MixtralConfig(
        vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14336, n_experts=8, n_active=2, tie_embeddings=False
    )
    assert round(config.n_params / 1e9, 1) == 46.7
    assert round(config.transformer.n_active_params / 1e9, 1) == 12.9


def test_more_active_experts_than_experts_are_refused():
    with pytest.raises(ConfigError, match=r"MixtralConfig\.n_active=6 is more than n_experts=5"):
        MIXTRAL.replace(n_active=6)


def test_noise_in_the_router_is_refused():
    with pytest.raises(DataError, match=r"router_jitter_noise=0\.1, which is not supported"):
        MixtralConfig.from_hub(MIXTRAL.to_hub() | {"router_jitter_noise": 0.1})
