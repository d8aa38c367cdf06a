from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Gpt2Config, load_hub, save_hub
from bloomery.nn import SequenceLayout

TINY = Gpt2Config(vocab_size=50, d_model=24, n_layers=2, n_heads=4, max_seq_len=32)


def test_sizes_left_out_follow_the_others():
    assert TINY.d_ff == 96
    assert TINY.replace(d_model=48).d_ff == 192


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_heads": 5}, "Gpt2Config.n_heads=5 does not divide d_model=24; 4 or 6 would"),
        ({"n_kv_heads": 2}, "Gpt2Config has no field 'n_kv_heads'; did you mean 'n_heads'?"),
        ({"norm_eps": 0}, "Gpt2Config.norm_eps=0: input should be greater than 0"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        TINY.replace(**fields)
    assert str(caught.value) == message


def test_gpt3_has_a_window_in_every_other_layer():
    (dense,) = TINY.transformer.mixers
    banded, ids, layout = TINY.transformer.replace(mixers=(dense, dense.replace(window=4))), torch.arange(20)[None], SequenceLayout.rows(1, 20)
    near, far = banded.build(0)(ids, layout)[0], TINY.transformer.build(0)(ids, layout)[0]
    torch.testing.assert_close(near[:4], far[:4])
    assert (near[4:] - far[4:]).abs().amax(-1).gt(1e-6).all()


def test_a_checkpoint_without_the_prefix_and_with_old_masks_is_read(tmp_path):
    """As the first GPT-2 on the hub has it."""
    model = TINY.build(1)
    save_hub(model, TINY, tmp_path)
    state = {name.removeprefix("transformer."): tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    state |= {f"h.{i}.attn.bias": torch.ones(1, 1, 32, 32) for i in range(2)} | {"lm_head.weight": state["wte.weight"].clone()}
    save_file(state, tmp_path / "model.safetensors")
    config, read = load_hub(tmp_path)
    assert config == TINY
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), read.parameters(), strict=True))
    save_file(state | {"h.2.attn.c_attn.bias": torch.ones(72)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"the tensor 'transformer\.h\.2\.attn\.c_attn\.bias', for which a Gpt2Config has no place"):
        load_hub(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "gelu"}, "activation_function='gelu', which is not supported; a Gpt2Config is built with 'gelu_new'"),
        ({"scale_attn_weights": False}, "scale_attn_weights=False, which is not supported"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True, which is not supported"),
        ({"add_cross_attention": True}, "add_cross_attention=True, which is not supported"),
        ({"n_inner": 97}, r"'transformer\.h\.0\.mlp\.c_fc\.weight' has shape \(24, 96\), and .* calls for \(24, 97\)"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(changes, message, tmp_path):
    save_hub(TINY.build(1), TINY, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DataError, match=message):
        load_hub(tmp_path)


def test_what_the_hub_leaves_out_is_taken_as_there():
    read = Gpt2Config.from_hub({"vocab_size": 9, "n_embd": 12, "n_layer": 1, "n_head": 2, "n_inner": None})
    assert (read.d_ff, read.max_seq_len, read.norm_eps, read.tie_embeddings) == (48, 1024, 1e-5, True)
    with pytest.raises(DataError, match=r"config\.json has no 'n_layer'"):
        Gpt2Config.from_hub({"vocab_size": 9, "n_embd": 12, "n_head": 2})
