from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.config import to_plain
from bloomery.core.errors import ArtifactError
from bloomery.models import LlamaConfig, config_from_plain, read_model, write_model
from bloomery.nn import FanInInit, NormalInit

TIED = LlamaConfig(vocab_size=50, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=64)
UNTIED = TIED.replace(tie_embeddings=False, init=FanInInit(gain=0.7), head_dim=10)


@pytest.fixture(params=[TIED, UNTIED], ids=["tied", "untied"])
def config(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path, TIED, TIED.build(1))
    return tmp_path


def test_a_model_read_back_is_the_model_written(config, tmp_path):
    model = config.build(1)
    write_model(tmp_path, config, model)
    read, back = read_model(tmp_path)
    assert read == config
    assert [name for name, _ in back.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


def test_precision_survives(tmp_path):
    write_model(tmp_path, TIED, TIED.build(1).bfloat16())
    assert {p.dtype for p in read_model(tmp_path)[1].parameters()} == {torch.bfloat16}


def test_a_config_comes_back_from_its_identity(config):
    assert config_from_plain(json.loads(json.dumps(to_plain(config)))) == config
    assert isinstance(config_from_plain(to_plain(TIED.replace(init=NormalInit(std=0.5)))).init, NormalInit)


def test_the_written_config_does_not_lean_on_defaults(folder):
    plain = json.loads((folder / "config.json").read_text())
    assert set(LlamaConfig.model_fields) < set(plain)
    assert plain["init"] == {"kind": "NormalInit", "contract": 1, "std": 0.02}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "Gpt9"}, "kind='Gpt9', which is none of TransformerConfig, .*LlamaConfig"),
        ({"contract": 2}, "written under contract 2, and this version reads 1"),
        ({"d_ff": 32}, r"'blocks\.0\.ff\.gate_up\.weight' is \(128, 24\) in the file but \(64, 24\) by its config"),
        ({"n_layers": 3}, r"lacks the tensor 'blocks\.2\."),
        ({"n_layers": 1}, r"holds the unknown tensor 'blocks\.1\."),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_by_name(folder, changes, message):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ArtifactError, match=message):
        read_model(folder)


def test_torn_or_missing_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="not a readable safetensors file"):
        read_model(folder)
    path.unlink()
    with pytest.raises(ArtifactError, match="does not exist; run the stage"):
        read_model(folder)


def test_the_first_tensor_that_does_not_fit_is_named_whatever_the_hash_seed(folder):
    path = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "norm" not in name}, path)
    with pytest.raises(ArtifactError, match=r"lacks the tensor 'blocks\.0\.mixer_norm\.weight'"):
        read_model(folder)
