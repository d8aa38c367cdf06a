"""A training on what its model writes itself: killed anywhere it ends in the same bytes, and a teacher brings it nearer on its own texts."""

import json
from functools import partial

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Each, Packed, TokenShards
from bloomery.mesh import Layout
from bloomery.models import read_model
from bloomery.objectives import CausalLM, Distil, JensenShannon, Models
from bloomery.optim import AdamW, WarmupCosine
from bloomery.planning.machines import machine
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.planner import planner_of
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Train, Watch
from bloomery.stages.writing import Renewal
from bloomery.store import Store
from bloomery.text.tokenizer import Tokenizer
from bloomery.train import Checkpoints, TrainState
from bloomery.train.engines import BloomeryEngine
from bloomery.train.rollouts import Rollout, Rollouts
from bloomery.web.server import Served
from tests.stages.test_train import HELD_OUT, MODEL, WEIGHTS, interrupt, training
from tests.web.house import running

OWN = Rollout(prompt_tokens=8, max_new_tokens=16)
LEARN = {"ema": None, "watch": Watch(), "schedule": WarmupCosine(warmup=5), "optimizer": AdamW(learning_rate=1e-2), "batch_tokens": 512}
TEACHER = training(name="teacher", **LEARN | {"steps": 150, "init": Scratch(model=MODEL.replace(d_model=48, n_heads=4, d_ff=96))})
STUDENT = training(name="student", **LEARN | {"steps": 40})
DIVERGENCE = JensenShannon(beta=0.5)


def distilled(name: str, **changes) -> Train:
    objective = Distil(teacher=TEACHER, divergence=DIVERGENCE)
    fields = {"init": Continue(base=STUDENT), "packing": Each(), "objective": objective, "optimizer": AdamW(learning_rate=3e-3)}
    return training(name=name, **LEARN | fields | {"steps": 40} | changes)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, checkpoint_every_s=0.0, trackers=())


def writes(every: int) -> Train:
    rollout = OWN.replace(every=every, samples=2)
    return training(packing=Each(), rollout=rollout, steps=7, ema=None, watch=Watch(), objective=CausalLM())


@pytest.mark.parametrize(("after", "every"), [
    (3, 1), (1, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 1), (5, 1), (3, 3), (5, 3))),
])  # fmt: skip
def test_a_killed_training_ends_in_the_bytes_of_an_undisturbed_one(context, tmp_path, monkeypatch, every, after):
    whole = writes(every).run(context)
    again = RunContext(store=Store(tmp_path), quiet=True, checkpoint_every_s=0.0, trackers=())
    interrupt(monkeypatch, writes(every), again, after)
    assert writes(every).run(again).file(WEIGHTS).read_bytes() == whole.file(WEIGHTS).read_bytes()
    assert not any("rollouts" in name for name in whole.manifest.files)


def test_the_micro_batch_changes_no_row_that_is_written(context, tmp_path):
    losses = []
    for micro_batch in (1, 4):
        with_it = RunContext(store=Store(tmp_path / str(micro_batch)), quiet=True, micro_batch=micro_batch, trackers=())
        losses.append(writes(2).run(with_it).manifest.summary["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_server_writes_for_a_training_that_is_killed_and_goes_on(tmp_path, monkeypatch):
    """What it has learnt from is not asked for again: the rounds that lay on the disk are the ones that it goes on with."""
    store = Store(tmp_path)
    stage = writes(1).replace(rollout=OWN.replace(samples=2, engine=BloomeryEngine()))
    with pytest.raises(ConfigError, match="give --engine-url"):
        stage.run(RunContext(store=store, quiet=True, trackers=()))
    tokenizer = Tokenizer.load(stage.tokenizer.run(RunContext(store=store, quiet=True)).checked("tokenizer.json"))
    served = Served(model=MODEL.build(9).eval(), tokenizer=tokenizer, name="policy", renewal=Renewal(MODEL, "cpu"))
    with running(served) as there:
        context = RunContext(store=store, quiet=True, checkpoint_every_s=0.0, trackers=(), engines=(there.url,))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Checkpoints, "save", lambda self, state, save=Checkpoints.save: dies(save, self, state))
            stage.run(context)
        rounds = store.path(stage.reference + ".partial") / "rollouts"
        assert len(list(rounds.iterdir())) == 3  # of the steps behind the older checkpoint, which is of step 1
        left = stage.run(context)
        assert there.metric('bloomery_requests_total{path="/v1/completions",status="200"}') == 7 * stage.rows
        assert not any(name.startswith(("rollouts", "engine")) for name in left.manifest.files)
    lines = [json.loads(line) for line in left.file("metrics.jsonl").read_text().splitlines()]
    apart = [line["apart"] for line in lines if "apart" in line]
    assert len(apart) == 7
    assert max(apart) < 1e-4


def dies(save, checkpoints, state) -> None:
    """Two checkpoints, and then, two steps later, no more process."""
    if state.step <= 2:
        save(checkpoints, state)
        checkpoints.settle()
    if state.step == 4:
        raise KeyboardInterrupt


def apart(context: RunContext, trained: Train, folder) -> float:
    """How far a student is from its teacher on texts that it writes itself to prompts of held-out tales: nats per token."""
    student, teacher = (read_model(one.run(context).path / "model")[1].eval() for one in (trained, TEACHER))
    shards = TokenShards.open(HELD_OUT.run(context))
    state = TrainState(student, AdamW().build(student))
    ids = Tokenizer.load(trained.tokenizer.run(context).checked("tokenizer.json"))
    source = Rollouts(
        Packed(shards, Each(), time=32, seed=5), OWN, state, trained.batches, ends=ids.end, pad=ids.pad, vocab_size=ids.vocab_size, seed=9,
        folder=folder,
    )  # fmt: skip
    objective = Distil(teacher=TEACHER, divergence=DIVERGENCE)
    with torch.no_grad():
        (found,) = objective(Models(student, {TEACHER.address: teacher}), source.batch(0, 192))
    return float(found.total) / found.weight


@pytest.mark.slow
def test_a_student_comes_nearer_to_its_teacher_on_its_own_texts(context, tmp_path):
    measured = partial(apart, context, folder=tmp_path)
    on_policy, off_policy = measured(distilled("on_policy", rollout=OWN)), measured(distilled("off_policy"))
    assert on_policy < off_policy < measured(STUDENT)  # after as many steps; by how much, the log says


def test_only_decoders_write_and_only_to_prompts():
    with pytest.raises(ConfigError, match="take packing=Each"):
        training(rollout=OWN)
    with pytest.raises(ConfigError, match="more than a row"):
        training(rollout=OWN.replace(max_new_tokens=60), packing=Each())
    with pytest.raises(ConfigError, match="nothing says where a prompt ends"):
        training(rollout=Rollout(max_new_tokens=4), packing=Each())


@pytest.mark.parametrize("layout", [
    Layout(shard=2), Layout(tensor=2), Layout(context=2), Layout(pipeline=2), Layout(shard=2, expert=2, zero=2),
], ids=str)  # fmt: skip
def test_ranks_that_hold_parts_of_a_model_are_refused_to_write(layout):
    assert "Train.rollout has each rank write with the whole model" in refusal(writes(1), layout)
    assert "Train.rollout" not in refusal(training(), layout)


@pytest.mark.parametrize("layout", [Layout(replicate=2), Layout(shard=2, zero=2), Layout(shard=2, zero=1)], ids=str)
def test_ranks_that_have_all_of_a_model_may_write(layout):
    assert not refusal(writes(1), layout)


def refusal(stage: Train, layout: Layout) -> str:
    """Why a plan would not lay out a training like that."""
    return planner_of(stage.planned(MODEL), machine("h100"), stage.rows).refusal(layout)
