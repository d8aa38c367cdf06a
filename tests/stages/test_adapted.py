"""Going on from an adapter: trained further as it was left, by `then` and from a folder; or taken into the weights; and the best of it left."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from bloomery.core.errors import ConfigError
from bloomery.mesh import Part
from bloomery.models import AdaptedConfig, ModelConfig, attach_adapter, read_model
from bloomery.models.checkpoint import fill
from bloomery.nn.adapters import Adapter, DoRA, Int8, LoRA, PromptTuning, PTuning, QLoRA
from bloomery.stages.adapted import Adapted, AdapterFolder
from bloomery.stages.doctor import needed
from bloomery.stages.export import Export
from bloomery.stages.init import Continue, Hub, Init, Scratch
from bloomery.stages.stage import Inputs, RunContext
from bloomery.store import Store
from bloomery.train.checkpoints.folder import found, read_manifest
from bloomery.train.checkpoints.reader import Reader
from bloomery.train.stopping import Patience
from tests.stages.test_train import HELD_OUT, MODEL, WEIGHTS, Watch, interrupt, training
from tests.stages.test_train_adapter import logits

QUIET = {"watch": Watch(), "ema": None, "healing": None}
BASE = training(name="base", steps=2, **QUIET)
ADAPTERS = [
    LoRA(rank=2, name="mine", targets=("query", "head"), whole=("norm",)), DoRA(rank=2), QLoRA(rank=2, bits=Int8(block=8)), PTuning(n_tokens=3),
]  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, checkpoint_every_s=0.0, trackers=())


def low(adapter: Adapter, **changes):
    return BASE.replace(**{"name": f"low_{adapter.kind().lower()}", "init": Continue(base=BASE), "adapter": adapter, "steps": 3} | changes)


def told(init: Init, context: RunContext) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    inputs = Inputs({stage.reference: stage.run(context) for stage in training(init=init, watch=Watch()).inputs().values()})
    config, tell = init.load(inputs, seed=0)
    weights: dict[str, torch.Tensor] = {}
    tell(lambda name, whole: weights.__setitem__(name, whole.clone()))
    return config, weights


@pytest.mark.parametrize("adapter", [ADAPTERS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in ADAPTERS[1:])], ids=str)
def test_it_goes_on_as_it_was_left_with_the_optimisers_state_of_each_number(adapter, context):
    stage = low(adapter)
    further = stage.then(name="further", steps=2, keeps="optimizer")
    last = further.run(context)
    config, weights = told(further.init, context)
    assert config == AdaptedConfig(base=MODEL, adapter=adapter) == further.learner
    assert weights.keys() == {name for name, _ in config.build(seed=0).named_parameters()}
    base = load_file(context.store.open(BASE.reference).path / WEIGHTS)
    assert all(torch.equal(weights[name], base[name]) for name in base.keys() & weights.keys() - set(config.trained))
    (path,) = found(last.path / "optimizer")
    reader = Reader(path, list(read_manifest(path)["files"]))
    assert {float(reader.read(f"optimizer/{name}|step", Part.whole(()))) for name in config.trained} == {3 + 2}
    assert last.manifest.summary["trained"] == config.n_params
    model = config.build(seed=0).eval()
    fill(model, weights, path)
    _, left = read_model(context.store.open(further.init.adapter.reference).path / "model")
    torch.testing.assert_close(logits(model), logits(left), atol=1e-6, rtol=1e-6)
    again = further.then(name="again", steps=1)
    assert again.init.init == Continue(base=BASE)
    assert again.tuning == (Continue(base=BASE), adapter, BASE.seed)


@pytest.mark.parametrize("adapter", ADAPTERS[:3], ids=str)
def test_taken_into_the_weights_it_is_the_model_that_was_left_bit_by_bit(adapter, context):
    stage = low(adapter, keeps="optimizer")
    left = load_file(stage.run(context).path / WEIGHTS)
    config, weights = told(Adapted(adapter=stage, goes_on="weights"), context)
    assert config == MODEL
    assert weights.keys() == left.keys()
    assert all(torch.equal(weights[name], left[name]) for name in left)


def test_a_phase_with_another_adapter_or_none_goes_on_from_the_merged_weights(context):
    stage = low(ADAPTERS[0])
    for other in (DoRA(rank=2), None):
        assert stage.then(name="other", adapter=other).init == Continue(base=stage)
    everything = stage.then(name="everything", adapter=None, steps=1).run(context)
    before, after = (load_file(context.store.open(one).path / WEIGHTS) for one in (stage.reference, everything.reference))
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_phase_of_an_adapter_that_was_interrupted_ends_in_the_same_bytes(context, tmp_path, monkeypatch):
    further, other = low(ADAPTERS[0]).then(name="further", steps=4), replace(context, store=Store(tmp_path))
    whole = further.run(context)
    interrupt(monkeypatch, further, other, after=2)
    files = further.run(other).manifest.files
    for name in (WEIGHTS, "adapter/adapter_model.safetensors"):
        assert files[name].sha256 == whole.manifest.files[name].sha256


def test_from_a_folder_it_is_the_adapter_that_is_in_it_and_counts_by_its_contents(context, tmp_path):
    stage = low(LoRA(rank=2))
    artifact = stage.run(context)
    exported = Export(model=BASE).run(context)
    init = Adapted(adapter=AdapterFolder(path=artifact.path / "adapter"), init=Hub(path=exported.path))
    _, weights = told(init, context)
    _, expected = told(Adapted(adapter=stage), context)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    shutil.copytree(artifact.path / "adapter", tmp_path / "elsewhere")
    moved = init.replace(adapter=AdapterFolder(path=tmp_path / "elsewhere"))
    assert training(init=init).key == training(init=moved).key
    further = training(name="further", init=init, tokenizer=BASE.tokenizer, steps=2, **QUIET).run(context)
    model = read_model(context.store.open(BASE.reference).path / "model")[1]
    assert attach_adapter(model, further.path / "adapter").rank == 2
    torch.testing.assert_close(logits(model), logits(read_model(further.path / "model")[1]), atol=1e-6, rtol=1e-6)


def test_a_second_adapter_can_be_trained_on_a_first_that_stays(context):
    first = low(LoRA(rank=2), keeps="optimizer")
    second = training(name="second", init=Adapted(adapter=first), adapter=PromptTuning(n_tokens=2, name="second"), steps=2, **QUIET)
    config, model = read_model(second.run(context).path / "model")
    assert config == AdaptedConfig(base=first.learner, adapter=second.adapter)
    a = load_file(first.run(context).path / "adapter" / "adapter_model.safetensors")
    assert any(torch.equal(p, tensor) for tensor in a.values() for name, p in model.named_parameters() if name.endswith("default.a.weight"))


@pytest.mark.parametrize("adapter", [LoRA(rank=2), PromptTuning(n_tokens=3)], ids=str)
def test_a_run_that_stops_leaves_its_best_adapter_interrupted_or_not(adapter, context, tmp_path, monkeypatch):
    rule = Patience(figure="held_out/aside/loss", better="higher", measurements=2)  # which it becomes at no step
    stops = {"watch": Watch(held_out=(HELD_OUT,), every=2, tokens=256), "stop": rule, "steps": 12}
    stage, other = low(adapter, name="stopped", **stops), replace(context, store=Store(tmp_path))
    stopped = stage.run(context)
    assert stopped.manifest.summary["left_step"] == 0 < stopped.manifest.summary["steps"] < 12
    fresh = AdaptedConfig(base=MODEL, adapter=adapter).build(seed=stage.seed)
    model = read_model(context.store.open(BASE.reference).path / "model")[1]
    attach_adapter(model, stopped.path / "adapter")
    weights = dict(model.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in fresh.named_parameters() if p.requires_grad)
    torch.testing.assert_close(logits(model), logits(read_model(stopped.path / "model")[1]), atol=1e-6, rtol=1e-6)
    interrupt(monkeypatch, stage, other, after=3)
    files = stage.run(other).manifest.files
    assert not any(name.startswith("best/") for name in files)
    for name in (WEIGHTS, "adapter/adapter_model.safetensors"):
        assert files[name].sha256 == stopped.manifest.files[name].sha256


@pytest.mark.parametrize(("fields", "rule"), [
    ({"adapter": BASE}, r"has trained no adapter; take Continue\(base=…\)"),
    ({"adapter": AdapterFolder(path="nowhere")}, r"which model the adapter is for, which a folder does not; give Hub"),
    ({"adapter": AdapterFolder(path="nowhere"), "init": Continue(base=BASE)}, r"path=.*nowhere.* holds no adapter_config\.json"),
    ({"adapter": AdapterFolder(path="nowhere"), "init": Scratch(model=MODEL)}, r"is fresh weights, for which nobody has trained an adapter"),
    ({"adapter": low(LoRA()), "init": Scratch(model=MODEL)}, "is not what .* trained its adapter on; leave it out"),
    ({"adapter": low(PTuning()), "goes_on": "weights"}, "no weights to go on with that could take in a PTuning"),
    ({"adapter": low(LoRA()), "goes_on": "weights", "carry": "optimizer"}, "optimiser's state of what goes on, and there is none"),
])  # fmt: skip
def test_what_cannot_be_gone_on_with_is_refused(fields, rule):
    with pytest.raises(ConfigError, match=rule):
        Adapted(**fields)


def test_the_doctor_asks_for_all_that_it_starts_with():
    further = low(LoRA()).then(name="further")
    assert {BASE.reference, further.init.adapter.reference} <= {one.reference for one in needed(further)}
