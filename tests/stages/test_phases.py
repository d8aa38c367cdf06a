"""Phases: `base.then(…).then(…)` freezes, goes on and carries the optimiser's state across; rates that follow from another training."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from bloomery.core.errors import ConfigError
from bloomery.mesh import Part
from bloomery.models import LlamaConfig
from bloomery.models.growth import Deepen
from bloomery.optim import AdamW, BatchRule, Constant, Embeddings, Everything, Geometric, LastLayers, Muon, Paths
from bloomery.stages.convert import Convert
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.rate import ShareOf
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Store
from bloomery.text.readers import TaleStories
from bloomery.train import Checkpoints
from bloomery.train.checkpoints.folder import found, read_manifest
from bloomery.train.checkpoints.reader import Reader

MODEL = LlamaConfig(vocab_size=320, d_model=16, n_layers=3, n_heads=2, d_ff=32, max_seq_len=64)
TALES = Prepare(source=TaleStories(count=60))
TOKENIZER = TrainTokenizer(corpora=(TALES,), vocab_size=300)
BASE = Train(
    name="base", tokenizer=TOKENIZER, init=Scratch(model=MODEL), sources=(Share(tokens=Tokenize(corpus=TALES, tokenizer=TOKENIZER)),),
    max_seq_len=32, batch_tokens=128, steps=4, ema=0.9, optimizer=AdamW(learning_rate=1e-3), schedule=Constant(warmup=0),
)  # fmt: skip
TOP = BASE.then(name="top", trainable=LastLayers(count=1), steps=3)
ALL = TOP.then(name="all", trainable=Everything(), steps=2, keeps="optimizer")


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, trackers=())


@pytest.fixture(scope="module")
def artifacts(context):
    last = ALL.run(context)
    return [context.store.open(stage.reference) for stage in (ALL.init.base.init.base, ALL.init.base)] + [last]


def weights(artifact):
    return load_file(artifact.path / "model" / "model.safetensors")


def test_the_last_layer_then_all(artifacts):
    base, top, everything = map(weights, artifacts)
    moved = {name for name in base if not torch.equal(base[name], top[name])}
    assert moved == {name for name in base if name.startswith(("blocks.2.", "norm."))}
    assert all(not torch.equal(top[name], everything[name]) for name in base)


def test_each_parameter_goes_on_counting_its_own_steps(artifacts):
    (path,) = found(artifacts[2].path / "optimizer")
    reader = Reader(path, list(read_manifest(path)["files"]))
    def steps(name):
        return float(reader.read(f"optimizer/{name}|step", Part.whole(())))

    assert steps("blocks.2.mixer.qkv.weight") == 4 + 3 + 2
    assert steps("blocks.0.mixer.qkv.weight") == steps("embedding.weight") == 2  # the phase before left these alone


def test_a_phase_that_keeps_nothing_leaves_a_model_only(artifacts, context):
    plain = TOP.run(context)
    assert not any(name.startswith("optimizer/") for name in plain.manifest.files)
    assert any(name.startswith("optimizer/") for name in artifacts[1].manifest.files)
    assert plain.manifest.files["model/model.safetensors"].sha256 == artifacts[1].manifest.files["model/model.safetensors"].sha256


def test_what_is_carried_counts(artifacts, context):
    anew = ALL.replace(name="anew", keeps="model", init=Continue(base=ALL.init.base)).run(context)
    assert not torch.equal(weights(anew)["blocks.2.mixer.qkv.weight"], weights(artifacts[2])["blocks.2.mixer.qkv.weight"])


def test_a_phase_that_was_interrupted_ends_in_the_same_bytes(artifacts, context, monkeypatch):
    longer = TOP.then(name="longer", trainable=Everything(), steps=6)
    whole = longer.run(context)
    again = longer.replace(name="again")

    def save(self, state, save=Checkpoints.save):
        save(self, state)
        if state.step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(KeyboardInterrupt):
            again.run(RunContext(store=context.store, quiet=True, trackers=(), checkpoint_every_s=0.0))
    files = again.run(context).manifest.files
    assert files["model/model.safetensors"].sha256 == whole.manifest.files["model/model.safetensors"].sha256


def test_phases_change_no_key_of_what_knows_nothing_of_them():
    plain = BASE.identity()["key"]
    assert BASE.replace(trainable=Everything(), keeps="model").key == plain
    assert BASE.replace(trainable=LastLayers(count=1)).key != plain
    assert TOP.init.base.key != plain
    assert BASE.replace(keeps="optimizer").then(name="top", trainable=LastLayers(count=1), steps=3).key == TOP.key


def test_tokens_and_steps_take_each_others_place():
    assert BASE.then(name="more", tokens=512).total_steps == 4
    assert BASE.replace(steps=None, tokens=512).then(name="more", steps=7).total_steps == 7


@pytest.mark.parametrize(("changes", "rule"), [
    ({"init": Continue(base=BASE, carry="optimizer")}, "Train/base leaves no state of an optimiser; give a Train keeps='optimizer'"),
    ({"init": Continue(base=Convert(base=BASE, change=Deepen(n_layers=4)), carry="optimizer")}, "Convert/main leaves no state"),
    ({"optimizer": Muon()}, "that of AdamW, with which Muon and AdamW cannot go on"),
    ({"trainable": Paths(paths=("blocks.7",))}, r"nothing to train at 'blocks\.7'; did you mean 'blocks\.\d'"),
    ({"trainable": LastLayers(count=12)}, "count=12 is more than the model's 3 blocks"),
    ({"trainable": Embeddings() - Everything()}, "leaves nothing of the model to train"),
])  # fmt: skip
def test_phases_that_cannot_be_are_refused_when_they_are_written_down(changes, rule):
    with pytest.raises(ConfigError, match=rule):
        BASE.then(name="next", **changes)


def test_a_rate_is_a_share_of_the_bases(context):
    base = BASE.replace(optimizer=Muon(learning_rate=4e-3, others=AdamW(learning_rate=1e-2)))
    tuned = base.replace(name="tuned", init=Continue(base=base), rate=ShareOf(base=base, share=0.1))
    assert tuned.updater.learning_rate == pytest.approx(4e-4)
    assert tuned.updater.others.learning_rate == pytest.approx(1e-3)
    assert ShareOf(base=tuned, share=0.5).given_to(AdamW()).learning_rate == pytest.approx(2e-4)
    assert ShareOf(base=Convert(base=base, change=Deepen(n_layers=6)), share=0.5).given_to(AdamW()).learning_rate == pytest.approx(2e-3)
    twice = base.replace(batch_rule=BatchRule(base_tokens=32, power="linear"))
    assert ShareOf(base=twice, share=0.1).given_to(AdamW()).learning_rate == pytest.approx(1.6e-3)


def test_a_share_of_a_rate_is_what_the_steps_are_taken_at(context):
    layered = AdamW(learning_rate=7.0, layer_rates=Geometric(decay=0.5))
    tuned = BASE.replace(name="tuned", init=Continue(base=BASE), optimizer=layered, rate=ShareOf(base=BASE, share=0.25), steps=2)
    lines = [json.loads(line) for line in (tuned.run(context).path / "metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines if "loss" in line] == pytest.approx([2.5e-4] * 2)
