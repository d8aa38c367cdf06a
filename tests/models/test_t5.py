"""T5: what its parity tests don't say. Sizes of published checkpoints, names on the hub, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import T5Config, load_hub, save_hub

SMALL = T5Config(vocab_size=41, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=32)
PUBLISHED = {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "num_layers": 6, "num_heads": 8, "d_ff": 2048, "model_type": "t5"}


@pytest.mark.parametrize(("changes", "n_params"), [
    ({}, 60_506_624),  # t5-small
    ({"num_layers": 8, "num_decoder_layers": 8, "num_heads": 6, "d_ff": 1024, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
     76_961_152),  # t5-v1_1-small
    ({"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, 222_903_552),  # t5-base
])  # fmt: skip
def test_published_configs_are_as_large_as_published(changes, n_params):
    assert T5Config.from_hub(PUBLISHED | changes).n_params == n_params


def test_copies_of_the_table_in_old_checkpoints_are_passed_over(tmp_path):
    config = SMALL.replace(tie_embeddings=True, feed_forward="relu")
    model = config.build(0)
    save_hub(model, config, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    copies = {name: state["shared.weight"].clone() for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")}
    unused = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.zeros(32, 2)}
    save_file(state | copies | unused, tmp_path / "model.safetensors")
    _, back = load_hub(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


def test_what_version_5_of_transformers_makes_of_an_untied_head_is_understood():
    """It says that the embeddings are tied whatever they are, and keeps what was asked under another name."""
    plain = SMALL.to_hub() | {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    assert not T5Config.from_hub(plain).tie_embeddings
    assert T5Config.from_hub(plain | {"scale_decoder_outputs": True}).tie_embeddings


@pytest.mark.parametrize(("changes", "named"), [
    ({"feed_forward_proj": "gated-swish"}, "feed_forward_proj='gated-swish'"),
    ({"dense_act_fn": "relu"}, "dense_act_fn='relu'.*'gelu_new'"),
    ({"is_gated_act": False}, "is_gated_act"),
    ({"tie_encoder_decoder": True}, "tie_encoder_decoder=True"),
    ({"is_encoder_decoder": False}, "is_encoder_decoder=False"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
])  # fmt: skip
def test_configs_that_we_do_not_have_are_refused_by_name(changes, named):
    with pytest.raises(DataError, match=named):
        T5Config.from_hub(SMALL.to_hub() | changes)


@pytest.mark.parametrize("missing", ["d_kv", "num_heads", "vocab_size"])
def test_a_config_without_a_size_is_refused(missing):
    with pytest.raises(DataError, match=missing):
        T5Config.from_hub({name: value for name, value in SMALL.to_hub().items() if name != missing})


def test_a_head_that_is_missing_is_named(tmp_path):
    save_hub(SMALL.build(0), SMALL, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"lm_head\.weight"):
        load_hub(tmp_path)


def test_the_decoder_starts_with_the_token_that_the_hub_names(tmp_path):
    config = SMALL.replace(start_id=7)
    save_hub(config.build(0), config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["decoder_start_token_id"] == 7
    assert load_hub(tmp_path)[0].start_id == 7


@pytest.mark.parametrize(("fields", "named"), [
    ({"n_heads": 3}, "n_heads=3 does not divide d_model=16; 2 or 4"),
    ({"start_id": 41}, "start_id=41 is not below vocab_size=41"),
    ({"n_buckets": 31}, "n_buckets=31 is odd"),
    ({"max_distance": 8}, "max_distance=8"),
    ({"feed_forward": "gelu"}, "feed_forward"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(fields, named):
    with pytest.raises(ConfigError, match=named):
        SMALL.replace(**fields)
