"""Export: what a training left, as `transformers` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.generate import Greedy, stream
from bloomery.models import LlamaConfig, load_hub, save_hub, write_model
from bloomery.models.gguf import load_gguf
from bloomery.nn import FanInInit, SequenceLayout
from bloomery.stages.export import Export
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.sharing import folder
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Artifact, Store
from bloomery.text.chat import ChatTemplate
from bloomery.text.readers import Files
from bloomery.text.tokenizer import Tokenizer

CONFIG = LlamaConfig(
    vocab_size=300, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=64, tie_embeddings=False,
    init=FanInInit(gain=2.0, embedding=1.0),
)
TALK = [{"role": "user", "content": "Is the iron hot?"}, {"role": "assistant", "content": "It is."}, {"role": "user", "content": "How hot?"}]


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(store=Store(tmp_path / "store"), quiet=True)


@pytest.fixture
def training(tmp_path: Path, context: RunContext) -> Train:
    """A `Train` whose artifact is in the store as the stage would leave it, with the weights of step 0."""
    (tmp_path / "ore.txt").write_text("The iron is hot. " * 50)
    corpus = Prepare(source=Files(path=str(tmp_path / "ore.txt")))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=300)
    shards = Tokenize(corpus=corpus, tokenizer=tokenizer)
    stage = Train(tokenizer=tokenizer, init=Scratch(model=CONFIG), sources=(Share(tokens=shards),), max_seq_len=64, batch_tokens=64, steps=1)
    workspace = context.store.workspace(stage.reference)
    write_model(workspace.path / "model", CONFIG, CONFIG.build(3))
    Tokenizer.train(["The iron is hot. Is it? How hot? It is."] * 9, vocab_size=300).save(workspace.path / "tokenizer" / "tokenizer.json")
    workspace.finish(stage=stage.kind(), name=stage.name, key=stage.key, fields={}, inputs={}, summary={})
    return stage


@pytest.fixture
def exported(training: Train, context: RunContext) -> Artifact:
    return Export(model=training).run(context)


@pytest.fixture
def own_tokenizer(exported: Artifact) -> Tokenizer:
    return Tokenizer.load(exported.file("tokenizer.json"))


def test_the_folder_reads_back_as_the_same_model(exported):
    config, model = load_hub(exported.path)
    assert config.replace(init=CONFIG.init) == CONFIG
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), CONFIG.build(3).parameters(), strict=True))


def test_all_files_of_a_hub_folder_are_there(exported):
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    assert set(exported.manifest.files) == wanted | {"README.md", "demo.html"}
    assert exported.manifest.summary["n_params"] == CONFIG.n_params


def test_control_tokens_are_named_alike_in_every_file(exported, own_tokenizer):
    for file in ("config.json", "generation_config.json"):
        plain = json.loads(exported.file(file).read_text())
        found = tuple(plain[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id"))
        assert found == (own_tokenizer.begin, own_tokenizer.end, own_tokenizer.pad)


def test_transformers_writes_the_same_text(exported, own_tokenizer):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported.path)
    model = CONFIG.build(3)
    prompt = ChatTemplate().render(TALK, own_tokenizer, add_generation_prompt=True).ids
    ids = torch.tensor([prompt])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids, SequenceLayout.rows(*ids.shape)), atol=2e-5, rtol=0)
    new = theirs.generate(ids, max_new_tokens=12)[0, len(prompt) :].tolist()
    ours = list(stream(model, prompt, Greedy(), {own_tokenizer.end}, 12))
    assert len(ours) > 3
    assert [token for token in new if token != own_tokenizer.end] == ours


def test_what_its_card_says_of_using_it_can_be_done(exported, own_tokenizer, monkeypatch, capsys):
    pytest.importorskip("transformers", reason="parity needs the transformers library")
    monkeypatch.chdir(exported.path)
    names: dict[str, Any] = {}
    exec(exported.file("README.md").read_text().split("```python\n")[1].split("\n```")[0], names)
    prompt = ChatTemplate().render([{"role": "user", "content": "Hello!"}], own_tokenizer, add_generation_prompt=True).ids
    assert names["ids"]["input_ids"].tolist() == [prompt]
    assert len(capsys.readouterr().out) > 20


def test_transformers_encodes_text_and_conversations_alike(exported, own_tokenizer):
    transformers = pytest.importorskip("transformers", reason="parity needs the transformers library")
    theirs = transformers.AutoTokenizer.from_pretrained(exported.path)
    text = "The iron is hot, 12 times — ähm.\n\nYes"
    assert theirs(text).input_ids == own_tokenizer.encode(text)
    assert theirs.decode(theirs(text).input_ids) == text
    expected = ChatTemplate().render(TALK, own_tokenizer, add_generation_prompt=True).ids
    assert theirs.apply_chat_template(TALK, add_generation_prompt=True, return_dict=True)["input_ids"] == expected
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (own_tokenizer.begin, own_tokenizer.end, own_tokenizer.pad)


def test_a_torn_training_is_not_exported(training, context):
    weights = context.store.path(training.reference) / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.safetensors does not have the checksum"):
        Export(model=training).run(context)


def test_weights_can_be_rounded_and_its_config_says_so(training, context):
    exported = Export(model=training, weights="bf16").run(context)
    assert json.loads(exported.file("config.json").read_text())["dtype"] == "bfloat16"
    full = exported.manifest.summary["n_params"] * 4
    assert exported.file("model.safetensors").stat().st_size < 0.6 * full
    ours = CONFIG.build(3).state_dict()
    for name, read in load_hub(exported.path)[1].state_dict().items():
        assert torch.equal(read, ours[name].bfloat16().float()), name
    assert "logits within" in exported.file("README.md").read_text()


def test_gguf_files_stand_beside_it(training, context):
    pytest.importorskip("gguf", reason="GGUF files need the gguf package")
    exported = Export(model=training, gguf=("f32", "q8_0")).run(context)
    card = exported.file("README.md").read_text()
    assert "main-f32.gguf, read back: the same logits" in card
    assert "main-q8\\_0.gguf, read back: logits within" in card
    for parameter, ours in zip(load_gguf(exported.file("main-f32.gguf"), CONFIG).parameters(), CONFIG.build(3).parameters(), strict=True):
        assert torch.equal(parameter, ours)


@pytest.mark.parametrize("fault", ["a weight", "a field"])
def test_what_does_not_read_back_as_the_model_is_no_export(fault, training, context, monkeypatch):
    """A fault in the writing: two matrices of the same shape exchanged, or a field of the config that says something else."""

    def faulty(model, config, folder, *rest):
        save_hub(model, config, folder, *rest)
        if fault == "a field":
            plain = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(plain | {"rms_norm_eps": 0.5}))
            return
        tensors = load_file(folder / "model.safetensors")
        one, other = (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1))
        save_file(tensors | {one: tensors[other], other: tensors[one]}, folder / "model.safetensors")

    monkeypatch.setattr(folder, "save_hub", faulty)
    told = "describes another model" if fault == "a field" else "does not read back as it was written"
    with pytest.raises(ArtifactError, match=told):
        Export(model=training).run(context)


def test_a_measurement_of_another_model_is_refused(training):
    other = training.replace(name="other", seed=5)
    with pytest.raises(ConfigError, match=r"Export\.evaluated has Export/main-\w+, which measures another model than Train/main-"):
        Export(model=training, evaluated=(Export(model=other),))
