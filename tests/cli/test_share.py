"""`bloomery export`, `import` and `push`: a model there and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bloomery.cli.main import cli
from bloomery.cli.share import downloaded
from bloomery.core.errors import ConfigError, DataError
from bloomery.models import AdaptedConfig, LlamaConfig, read_model, save_adapter, write_model
from bloomery.nn import FanInInit
from bloomery.nn.adapters import LoRA
from bloomery.store import Store
from bloomery.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["the quick brown fox jumps over the lazy dog"] * 20, vocab_size=290)
CONFIG = LlamaConfig(
    vocab_size=290, d_model=16, n_layers=1, n_heads=2, max_seq_len=40, tie_embeddings=False, init=FanInInit(gain=2.0, embedding=1.0),
)  # fmt: skip


def trained(store: Store, name: str, model, config=CONFIG, inputs=None, fields=None, adapter=None):
    workspace = store.workspace(f"Train/{name}-0")
    write_model(workspace.path / "model", config, model)
    TOKENIZER.save(workspace.path / "tokenizer" / "tokenizer.json")
    if adapter is not None:
        tuned, learnt = adapter
        save_adapter(workspace.path / "adapter", learnt, {key: p.detach() for key, p in tuned.named_parameters() if key in learnt.trained})
    return workspace.finish(stage="Train", name=name, key="0", fields=fields or {}, inputs=inputs or {}, summary={})


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """A base; what a LoRA makes of it, beside the LoRA; and a measurement of the base."""
    store = Store(tmp_path_factory.mktemp("store"))
    base = CONFIG.build(3)
    trained(store, "base", base, fields={"watch": {"prompts": ["the fox"]}})
    config = AdaptedConfig(base=CONFIG, adapter=LoRA(rank=2))
    tuned = config.build(4)
    own = dict(base.named_parameters())
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            parameter.copy_(own[name]) if name in own else parameter.normal_(std=0.3)
    stored, parameters = config.stored(), dict(tuned.named_parameters())
    merged = stored.config.build(0)
    with torch.no_grad():
        for name, parameter in merged.named_parameters():
            parameter.copy_(stored.make(name, {source: parameters[source] for source in stored.reads(name)}))
    trained(store, "low", merged, inputs={"init.base": "Train/base-0"}, adapter=(tuned, config))
    store.workspace("Evaluate/exam-0").finish(
        stage="Evaluate", name="exam", key="0", fields={}, inputs={"model": "Train/base-0"}, summary={"exact_match": 0.625},
    )  # fmt: skip
    return store


def run(store: Store, *arguments: str):
    done = CliRunner().invoke(cli, [*arguments, "--store", str(store.root)], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_model_goes_there_and_back(store, tmp_path):
    told = run(store, "export", "Train/base", str(tmp_path / "shared"))
    assert "Train/base-0: weights in fp32, read back: the same logits" in told
    assert "Train/base-0: transformers" in told
    card, page = (tmp_path / "shared" / "README.md").read_text(), (tmp_path / "shared" / "demo.html").read_text()
    assert "| Evaluate/exam-0 | exact\\_match | 0.625 |" in card
    assert ">the fox</p>" in page  # the prompt that was watched
    run(store, "import", str(tmp_path / "shared"), "--name", "again")
    (taken,) = store.root.glob("Import/again-????????????")
    for ours, read in zip(CONFIG.build(3).parameters(), read_model(taken / "model")[1].parameters(), strict=True):
        assert torch.equal(ours, read)


def test_an_adapter_goes_alone_and_is_put_onto_its_base_again(store, tmp_path):
    told = run(store, "export", "Train/low", str(tmp_path / "low"), "--as", "adapter")
    assert "Train/low-0: on Train/base-0: " in told
    assert {path.name for path in (tmp_path / "low").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md",
    }  # fmt: skip
    card = (tmp_path / "low" / "README.md").read_text()
    assert 'library_name: "peft"' in card
    assert "for Train/base-0, a LlamaConfig" in card
    assert "bloomery import BASE --adapter . " in card
    run(store, "export", "Train/base", str(tmp_path / "base"))
    run(store, "import", str(tmp_path / "base"), "--adapter", str(tmp_path / "low"), "--name", "merged")
    (taken,) = store.root.glob("Import/merged-????????????")
    expected = dict(read_model(store.root / "Train" / "low-0" / "model")[1].named_parameters())
    for name, read in read_model(taken / "model")[1].named_parameters():
        torch.testing.assert_close(read, expected[name], rtol=1e-5, atol=1e-6)


def test_an_adapter_of_another_base_is_refused(store, tmp_path):
    other = Store(tmp_path / "store")
    shutil.copytree(store.root / "Train" / "low-0", other.root / "Train" / "low-0")
    trained(other, "base", CONFIG.build(8))
    with pytest.raises(ConfigError, match="on Train/base-0 is not what it was trained to be"):
        run(other, "export", "Train/low", str(tmp_path / "low"), "--as", "adapter")
    assert not (tmp_path / "low").exists()
    assert not (tmp_path / "low.writing").exists()


@pytest.mark.parametrize(("arguments", "told"), [
    (("export", "Train/base", "full"), "full is there already and not empty; give a new folder"),
    (("export", "Train/base", "new", "--as", "adapter"), "Train/base-0 holds no adapter"),
    (("export", "Train/low", "new", "--as", "adapter", "--weights", "bf16"), "--as adapter writes the adapter as it was trained"),
    (("import", "full", "--role", "end"), "--role 'end' is not ROLE=TOKEN"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")  # fmt: skip
def test_what_cannot_be_is_told_and_nothing_is_left(arguments, told, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/a").write_text("a")
    with pytest.raises(ConfigError, match=told):
        run(store, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_what_is_no_folder_and_no_name_is_told(tmp_path):
    with pytest.raises(DataError, match="is no folder, and no OWNER/NAME on the hub"):
        downloaded("nowhere", "main", tmp_path)


def test_pushing_needs_a_token(store, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(ConfigError, match="needs a token of the hub that may write"):
        done = CliRunner().invoke(cli, ["push", str(tmp_path), "me/model"])
        raise done.exception
