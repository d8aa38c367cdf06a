from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import LlamaConfig, MistralConfig
from bloomery.nn import FanInInit, SequenceLayout

TINY = MistralConfig(vocab_size=50, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=64, window=5, init=FanInInit(embedding=1.0))


def logits(config: LlamaConfig | MistralConfig, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return config.build(0)(ids, SequenceLayout.rows(*ids.shape))


def test_without_a_window_it_is_a_llama():
    ids = torch.arange(30)[None]
    llama = LlamaConfig(**{name: getattr(TINY, name) for name in TINY.model_fields_set - {"window"}}, tie_embeddings=False)
    assert torch.equal(logits(TINY.replace(window=None), ids), logits(llama, ids))
    assert torch.equal(logits(TINY.replace(window=64), ids), logits(llama, ids))
    assert not torch.allclose(logits(TINY, ids), logits(llama, ids))


def test_a_token_reaches_a_window_further_with_every_layer():
    ids = torch.arange(30)[None]
    changed = ids.clone()
    changed[0, 3] = 49
    moved = (logits(TINY, ids) - logits(TINY, changed)).abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(3, 3 + 2 * (5 - 1) + 1))


def test_a_window_of_none_on_the_hub_sees_all_and_a_missing_one_is_the_librarys():
    plain = TINY.to_hub()
    assert MistralConfig.from_hub(plain | {"sliding_window": None}).window is None
    assert MistralConfig.from_hub({name: value for name, value in plain.items() if name != "sliding_window"}).window == 4096


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 0}, "MistralConfig.window=0: input should be greater than 0"),
        ({"n_kv_heads": 3}, "MistralConfig.n_kv_heads=3 does not divide n_heads=4; 2 or 4 would"),
        ({"attention_bias": True}, "MistralConfig has no field 'attention_bias'"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        TINY.replace(**fields)


def test_what_is_not_supported_is_refused_by_name():
    with pytest.raises(DataError, match="hidden_act='relu', which is not supported; a MistralConfig is built with 'silu'"):
        MistralConfig.from_hub(TINY.to_hub() | {"hidden_act": "relu"})
