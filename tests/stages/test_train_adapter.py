"""`Train` with an adapter, end to end: what is trained, kept, saved, resumed, and gone on from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout
from bloomery.models import AdaptedConfig, attach_adapter, read_model
from bloomery.nn import SequenceLayout
from bloomery.nn.adapters import DoRA, LoRA, PrefixTuning, PromptTuning
from bloomery.objectives import EWC, L2SP, CausalLM
from bloomery.stages.export import Export
from bloomery.stages.fisher import Fisher
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.planner import NOTHING_AGAIN
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from tests.stages.test_train import MODEL, TOKENIZER, TOKENS, WEIGHTS, interrupt, lines, training

IDS = torch.arange(3, 27)[None]
LOW = LoRA(rank=4, targets=("mixer", "head"))


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, checkpoint_every_s=0.0)


@pytest.fixture(scope="module")
def base(context):
    stage = training(steps=6)
    stage.run(context)
    return stage


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS, SequenceLayout.rows(*IDS.shape))


def low(base, **changes):
    return training(**{"name": "low", "init": Continue(base=base), "adapter": LOW} | changes)


@pytest.fixture(scope="module")
def artifact(base, context):
    return low(base).run(context)


def test_the_model_is_the_base_with_the_adapter_in_it_and_the_adapter_is_there_alone(artifact, base, context):
    config, merged = read_model(artifact.path / "model")
    assert config == MODEL
    _, model = read_model(context.store.open(base.reference).path / "model")
    assert attach_adapter(model, artifact.path / "adapter").rank == 4
    torch.testing.assert_close(logits(model), logits(merged), atol=1e-6, rtol=1e-6)
    before, after = (load_file(path / WEIGHTS) for path in (context.store.open(base.reference).path, artifact.path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"embedding.weight", "blocks.0.mixer.qkv.weight", "blocks.0.mixer.out.weight"}
    trained = AdaptedConfig(base=MODEL, adapter=LOW).n_params
    summary = artifact.manifest.summary
    assert (summary["parameters"], summary["trained"]) == (MODEL.n_params, trained)


def test_checkpoints_have_the_adapter_alone_and_a_resumed_run_ends_in_the_same_bytes(base, context, artifact, tmp_path, monkeypatch):
    other = replace(context, store=Store(tmp_path))
    partial = interrupt(monkeypatch, low(base), other, after=7)
    names: list[str] = []
    for file in partial.glob("checkpoints/*/*.safetensors"):
        with safe_open(file, "pt") as opened:
            names += opened.keys()
    assert names
    assert all(".adapters.default." in name for name in names)
    again = low(base).run(other)
    for name in (WEIGHTS, "adapter/adapter_model.safetensors"):
        assert (again.path / name).read_bytes() == (artifact.path / name).read_bytes()


def test_what_it_leaves_goes_on_as_any_other_model(artifact, base, context):
    stage = low(base)
    assert stage.architecture == MODEL
    exported = Export(model=stage).run(context)
    assert exported.manifest.summary["architecture"] == "LlamaForCausalLM"
    further = training(name="further", init=Continue(base=stage), steps=2, adapter=DoRA(rank=2)).run(context)
    assert read_model(further.path / "model")[0] == MODEL


def test_a_training_without_an_adapter_has_the_key_that_it_had(base):
    assert base.reference == training(steps=6, adapter=None).reference
    assert low(base).reference != training(name="low", init=Continue(base=base)).reference


def test_targets_that_are_not_there_are_refused_before_anything_runs(base):
    with pytest.raises(ConfigError, match=r"targets has 'attention', which is the path of no matrix of the model; it has .*mixer\.qkv"):
        low(base, adapter=LoRA(targets=("attention",)))
    with pytest.raises(ConfigError, match=r"names .nowhere., which the model has not"):
        training(init=Scratch(model=MODEL), tokenizer=TOKENIZER, adapter=LoRA(whole=("nowhere",)))


def test_weights_are_held_through_the_adapter_and_the_plan_counts_what_that_keeps(base, artifact, context):
    fisher = Fisher(model=base, tokens=TOKENS, examples=8, max_seq_len=32)
    held = low(base, name="held", objective=CausalLM() + EWC(fisher=fisher, strength=1e3)).run(context)
    plan, penalties = held.manifest.summary["plan"], [line["ewc"] for line in lines(held.path / "metrics.jsonl") if "ewc" in line]
    assert penalties[0] == 0.0 < penalties[-1]
    assert plan["optimizer"]["ratio"] == pytest.approx(1.0, abs=0.01)
    started, plain, ours = (load_file(path / WEIGHTS) for path in (context.store.open(base.reference).path, artifact.path, held.path))
    moved = [sum((after[name] - weight).square().sum() for name, weight in started.items()) for after in (ours, plain)]
    assert moved[0] < 0.5 * moved[1]


@pytest.mark.parametrize("adapter", [PromptTuning(n_tokens=4), PrefixTuning(n_tokens=3)], ids=str)
def test_what_adds_places_to_rows_is_planned_as_well(base, adapter, context):
    plan = low(base, name="planned", adapter=adapter, steps=2).run(context).manifest.summary["plan"]
    assert plan["weights"]["ratio"] == plan["optimizer"]["ratio"] == 1
    trainings = [(one, low(base, adapter=one)) for one in (adapter.replace(n_tokens=24), adapter)]
    more, less = (stage.memory(stage.planned(AdaptedConfig(base=MODEL, adapter=one)), 4, Layout(), NOTHING_AGAIN) for one, stage in trainings)
    assert more.parts["activations"] > less.parts["activations"]


@pytest.mark.parametrize(("adapter", "rule"), [
    (DoRA(), r"EWC pulls at what is added to matrices, and DoRA turns and stretches their rows; take adapter=LoRA\(\) or RsLoRA\(\)"),
    (PromptTuning(), r"EWC holds weights, and PromptTuning moves none; .* or hold what the model says by Distil"),
])  # fmt: skip
def test_penalties_on_weights_that_an_adapter_does_not_add_to_are_refused(base, adapter, rule):
    with pytest.raises(ConfigError, match=rule):
        low(base, adapter=adapter, objective=CausalLM() + EWC(fisher=Fisher(model=base, tokens=TOKENS)))


def test_a_prompt_that_is_trained_further_can_be_held_where_it_was(base):
    prompted = low(base, adapter=PromptTuning(n_tokens=3))
    held = prompted.then(name="held", objective=CausalLM() + L2SP(anchor=prompted))
    assert held.learner == prompted.architecture
