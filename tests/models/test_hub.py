"""Hub folders: the same model for `transformers` and for us, and one sentence for a folder that isn't whole."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.cases import CASES

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import LlamaConfig, Model, load_hub, save_hub
from bloomery.nn import FanInInit, LinearScaling, Llama3Scaling, NTKScaling, SequenceLayout, YarnScaling

BASE = LlamaConfig(
    vocab_size=61, d_model=24, n_layers=2, n_heads=4, d_ff=40, max_seq_len=64, tie_embeddings=False, norm_eps=1e-4,
    init=FanInInit(embedding=1.0),
)
VARIANTS = {
    "multi-head": BASE,
    "tied": BASE.replace(tie_embeddings=True),
    "grouped": BASE.replace(n_kv_heads=2),
    "multi-query": BASE.replace(n_kv_heads=1, tie_embeddings=True),
    "own head_dim": BASE.replace(n_kv_heads=2, head_dim=10),
    "own theta": BASE.replace(rope_theta=500_000.0),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def config(request: pytest.FixtureRequest) -> LlamaConfig:
    return request.param


@pytest.fixture
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="parity needs the transformers library")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_hub(BASE.build(1), BASE, tmp_path)
    return tmp_path


def random_norms(model: Model) -> Model:
    """Norm weights that differ from each other, so that mixing them up shows."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.5, generator=generator)
    return model


def tokens(config: LlamaConfig) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (2, 33), generator=torch.Generator().manual_seed(2))


def same_architecture(one: LlamaConfig, other: LlamaConfig) -> bool:
    return one.replace(init=FanInInit()) == other.replace(init=FanInInit())


def test_transformers_reads_ours_with_the_same_logits(config, transformers, tmp_path):
    model = random_norms(config.build(1))
    save_hub(model, config, tmp_path)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = tokens(config)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, SequenceLayout.rows(*ids.shape)), theirs(ids).logits, atol=1e-5, rtol=0)


def test_we_read_what_transformers_writes_with_the_same_logits(config, transformers, tmp_path):
    torch.manual_seed(0)
    sizes = {name: value for name, value in config.to_hub().items() if name != "architectures"}
    # Logits of size 5, which our own initialisation gives, are some 1e-4 from their float64, and two orders of summation as far apart.
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes | {"initializer_range": 0.1}))
    theirs.save_pretrained(tmp_path)
    read, model = load_hub(tmp_path)
    assert same_architecture(read, config)
    ids = tokens(config)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, SequenceLayout.rows(*ids.shape)), theirs(ids).logits, atol=1e-5, rtol=0)


def test_out_through_transformers_and_in_again_is_exact(config, transformers, tmp_path):
    model = random_norms(config.build(1))
    save_hub(model, config, tmp_path / "ours")
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    read, back = load_hub(tmp_path / "theirs")
    assert same_architecture(read, config)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


def test_shards_are_read_like_one_file(folder):
    _, whole = load_hub(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {f"model-0000{i + 1}-of-00002.safetensors": dict(list(state.items())[i::2]) for i in range(2)}
    for name, part in shards.items():
        save_file(part, folder / name)
    write(folder / "model.safetensors.index.json", {"weight_map": {tensor: file for file, part in shards.items() for tensor in part}})
    _, sharded = load_hub(folder)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), sharded.parameters(), strict=True))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match=r"names the shard 'model-00002-of-00002.safetensors', which is not in the folder"):
        load_hub(folder)


def test_large_models_are_written_in_shards_that_transformers_reads(config, transformers, tmp_path):
    model = random_norms(config.build(1))
    save_hub(model, config, tmp_path, max_shard_bytes=9_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert files == sorted(set(index["weight_map"].values()))
    assert sum(t.nbytes for file in files for t in load_file(tmp_path / file).values()) == index["metadata"]["total_size"]
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    _, back = load_hub(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))
    assert theirs.num_parameters() == config.n_params


def test_a_shard_outside_the_folder_is_not_opened(folder):
    inner = folder / "inner"
    inner.mkdir()
    (folder / "config.json").rename(inner / "config.json")
    outside = dict.fromkeys(load_file(folder / "model.safetensors"), "../model.safetensors")
    write(inner / "model.safetensors.index.json", {"weight_map": outside})
    with pytest.raises(DataError, match=r"names the shard '\.\./model\.safetensors'"):
        load_hub(inner)


@pytest.mark.parametrize(
    ("rope", "theta"),
    [
        ({"rope_theta": 123.0}, 123.0),
        ({"rope_theta": 123.0, "rope_scaling": None}, 123.0),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 456.0}}, 456.0),
        ({"rope_theta": 456.0, "rope_scaling": {"type": "default"}}, 456.0),
        ({}, 10_000.0),
    ],
)
def test_rope_theta_is_read_from_either_version(folder, rope, theta):
    change(folder, drop=("rope_theta", "rope_parameters"), **rope)
    assert load_hub(folder)[0].rope_theta == theta


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("rope", "scaling"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, LinearScaling(factor=2)),
        ({"rope_scaling": None, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 9e3}}, LinearScaling(factor=2)),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3}}, Llama3Scaling(original_max_seq_len=32)),
        ({"rope_parameters": {"rope_type": "llama3", **LLAMA3} | {"factor": 2.0}}, Llama3Scaling(original_max_seq_len=32, factor=2)),
        ({"rope_scaling": {"rope_type": "yarn", **YARN}}, YarnScaling(factor=4, original_max_seq_len=16)),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, YarnScaling(factor=4, original_max_seq_len=64)),
        ({"rope_parameters": {"rope_type": "yarn", **YARN, "factor": None}}, YarnScaling(factor=4, original_max_seq_len=16)),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "original_max_position_embeddings": 8},
            YarnScaling(factor=4, original_max_seq_len=8),
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", **YARN, "beta_fast": 8, "beta_slow": 2, "truncate": False, "attention_factor": 1.5}},
            YarnScaling(factor=4, original_max_seq_len=16, beta_fast=8, beta_slow=2, truncate=False, attention_factor=1.5),
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", **YARN, "mscale": 0.7, "mscale_all_dim": 0.3}},
            YarnScaling(factor=4, original_max_seq_len=16, attention_factor=(0.07 * math.log(4) + 1) / (0.03 * math.log(4) + 1)),
        ),
    ],
)  # fmt: skip
def test_rotary_scaling_is_read_from_either_version_as_transformers_reads_it(folder, rope, scaling, transformers):
    change(folder, drop=("rope_theta", "rope_parameters"), rope_theta=9e3, **rope)
    read, model = load_hub(folder)
    assert read.rope_theta == 9e3
    if scaling.magnitude == read.rope_scaling.magnitude:
        assert read.rope_scaling == scaling
    else:
        assert read.rope_scaling.magnitude == pytest.approx(scaling.magnitude)
    theirs, ids = transformers.AutoModelForCausalLM.from_pretrained(folder), torch.arange(60)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids, SequenceLayout.rows(1, 60)), theirs(ids).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("head_dim", [6, 10])
def test_ntk_scaling_is_written_as_the_theta_that_it_is(head_dim, transformers, tmp_path):
    config = BASE.replace(rope_scaling=NTKScaling(factor=4), head_dim=head_dim)
    model = random_norms(config.build(1))
    save_hub(model, config, tmp_path)
    read, back = load_hub(tmp_path)
    assert read.rope_scaling is None
    assert read.rope_theta == pytest.approx(10_000.0 * 4 ** (head_dim / (head_dim - 2)))
    theirs, ids = transformers.AutoModelForCausalLM.from_pretrained(tmp_path), tokens(config)
    with torch.no_grad():
        ours = model(ids, SequenceLayout.rows(*ids.shape))
        torch.testing.assert_close(ours, theirs(ids).logits, atol=1e-5, rtol=0)
        assert torch.equal(ours, back(ids, SequenceLayout.rows(*ids.shape)))


def test_heads_that_do_not_divide_the_width_are_no_llama_of_the_hub(tmp_path):
    config = BASE.replace(n_heads=5, head_dim=6)
    with pytest.raises(ConfigError, match=r"LlamaConfig\.n_heads=5 does not divide d_model=24, which the hub's llama asks for; 4 or 6 would"):
        save_hub(config.build(1), config, tmp_path)


NEUTRAL = {
    "_name_or_path", "_sliding_window_pattern", "architectures", "attention_dropout", "attn_pdrop", "bos_token_id", "chunk_size_feed_forward",
    "dtype", "embd_pdrop", "eos_token_id", "id2label", "initializer_range", "label2id", "max_window_layers", "model_type",
    "output_attentions", "output_hidden_states", "pad_token_id", "pretraining_tp", "problem_type", "reorder_and_upcast_attn", "resid_pdrop",
    "return_dict", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
    "transformers_version", "use_cache",
}  # fmt: skip
"""Fields that change no logits: tokens, dropout (of training alone), precision, tasks; and layers' windows where `layer_types` says them."""
DENSE = {
    CASES[name].hub_type: CASES[name]
    for name in ("gpt2", "llama", "mistral", "qwen3, grouped, biases, windows, yarn", "olmo2", "gemma", "gemma2", "gemma3")
}


@pytest.mark.parametrize("config", DENSE.values(), ids=DENSE.keys())
def test_no_field_that_changes_numbers_is_ignored(config, transformers):
    """Every field of the library's config, changed, is either read or refused."""
    plain, ignored = {name: value for name, value in config.to_hub().items() if name != "rope_scaling"}, []  # as version 5 writes it
    every = getattr(transformers, config.hub_architecture).config_class(**plain).to_dict()
    for name in every.keys() - NEUTRAL:
        changed = plain | {name: another(plain.get(name, every[name]))}
        with suppress(DataError, ConfigError):
            ignored += [name] if type(config).from_hub(changed) == type(config).from_hub(plain) else []
    assert not ignored


def another(value: Any) -> Any:
    """Some other value of a field."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict):
        return value | {"rope_type": "other"}
    if isinstance(value, list):
        return [*value[1:], "other"]
    return "other" if isinstance(value, str) else (value or 0) + 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"rope_type": "longrope", "factor": 8.0}}, "rope_type='longrope', which is not supported"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type='dynamic', which is not supported: its frequencies change with"),
        ({"rope_scaling": {"type": "linear"}}, "rope_type='linear' without 'factor'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0}}, "rope_type='llama3' without 'low_freq_factor'"),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 1]}}, r"mrope_section=\[1, 1, 1\] .*not supported"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5, which is not supported"),
        ({"rope_scaling": "linear"}, "rope_scaling='linear' rather than named values"),
        ({"hidden_size": "24"}, "hidden_size='24', which is no whole number"),
        ({"mlp_bias": True}, "mlp_bias=True, which is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config={'bits': 4}, which is not supported"),
        ({"attention_bias": True}, "no tensor 'model.layers.0.self_attn.q_proj.bias', which its config.json calls for"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu', which is not supported"),
        ({"model_type": "mamba"}, "model_type='mamba', which cannot be read; those that can are gpt2, llama, "),
        ({"intermediate_size": 41}, r"'model.layers.0.mlp.gate_proj.weight' has shape \(40, 24\), and .* calls for \(41, 24\)"),
        ({"num_hidden_layers": 3}, "no tensor 'model.layers.2.input_layernorm.weight', which its config.json calls for"),
        ({"num_hidden_layers": 1}, "the tensor 'model.layers.1.input_layernorm.weight', for which a LlamaConfig has no place"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_by_name(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_hub(folder)
    assert "\n" not in str(caught.value)


def test_a_size_that_is_missing_is_named(folder):
    change(folder, drop=("hidden_size",))
    with pytest.raises(DataError, match=r"config\.json has no 'hidden_size'"):
        load_hub(folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe\x00"])
def test_a_config_that_is_no_config_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(DataError, match=r"config\.json (is not JSON|holds a list)"):
        load_hub(folder)


def test_torn_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors is not a readable safetensors file"):
        load_hub(folder)


def test_pickles_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin is a pickle, which could run code: convert it to safetensors"):
        load_hub(folder)


def test_a_copied_head_and_old_buffers_may_be_there(tmp_path):
    config = BASE.replace(tie_embeddings=True)
    save_hub(config.build(1), config, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    extra = {"lm_head.weight": state["model.embed_tokens.weight"].clone(), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    save_file(state | extra, tmp_path / "model.safetensors")
    _, model = load_hub(tmp_path)
    assert torch.equal(model.head.matrix, config.build(1).embedding.weight)


def change(folder: Path, drop: tuple[str, ...] = (), **changes: object) -> None:
    plain = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", {k: v for k, v in plain.items() if k not in drop} | changes)


def write(path: Path, plain: object) -> None:
    path.write_text(json.dumps(plain))
