"""`Train` on two ranks: it heals as on one, from snapshots on the disk, and answers its prompts when the model is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bloomery.mesh import Layout, Mesh
from bloomery.stages import run as stages_run
from bloomery.stages.stage import RunContext
from bloomery.stages.trained import tokenizer_of
from bloomery.stages.writing import Renewal
from bloomery.store import Store
from bloomery.train import Healing, StepReport, TrainState
from bloomery.train import train as healthy
from bloomery.train.engines import BloomeryEngine
from bloomery.web.server import Limits, Served
from tests.mesh.ranks import on_ranks
from tests.stages.test_policy import BASE, dapo, ppo, rloo
from tests.stages.test_train import MODEL, lines, training
from tests.train.faults import damage
from tests.web.house import running

ENGINE = BloomeryEngine()

STAGE = training(steps=40, ema=None, clip_norm=None, healing=Healing(window=16, least=8, skips=1, lowers=1, snapshot_every=6))
DAMAGED = 27


def damaged(state: TrainState, *arguments: Any, **options: Any) -> Iterator[StepReport]:
    """The steps of a training whose weights are moved after one of them, as by an update that nobody noticed."""
    for report in healthy(state, *arguments, **options):
        yield report
        if report.step == DAMAGED and not state.known.rollbacks:
            damage(state)


def under(layout: Layout, store: Path) -> Path:
    """Trains under a layout; where the artifact is."""
    torch.set_num_threads(1)
    context = RunContext(store=Store(store), mesh=Mesh.join(layout), compile="never", checkpoint_every_s=0.0, trackers=())
    stages_run.train, whole = damaged, stages_run.train
    try:
        return STAGE.run(context).path
    finally:
        stages_run.train = whole


def written(layout: Layout, store: Path, *servers: str) -> list[Path]:
    """Has policies write and learn under a layout, or servers write for them; where the artifacts are."""
    torch.set_num_threads(1)
    context = RunContext(store=Store(store), mesh=Mesh.join(layout), compile="never", trackers=(), quiet=True, engines=servers)
    policies = [policy.replace(rollout=policy.rollout.replace(engine=ENGINE)) if servers else policy for policy in (rloo(), ppo(), dapo())]
    return [policy.run(context).path for policy in policies]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", [Layout(replicate=2), Layout(shard=2, zero=2)], ids=str)
def test_policies_write_on_two_ranks_what_they_write_on_one(layout: Layout, tmp_path: Path):
    on_two_as_on_one(layout, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_write_for_two_ranks_what_they_write_for_one(tmp_path: Path):
    context = RunContext(store=Store(tmp_path / "alone"), quiet=True, trackers=())
    base = BASE.run(context)
    served = Served(
        model=MODEL.build(9).eval(), tokenizer=tokenizer_of(base), name="policy", renewal=Renewal(MODEL, "cpu"), limits=Limits(rows=1),
    )  # fmt: skip  # one text at a time, since logits round by what is beside them
    with running(served) as there:
        on_two_as_on_one(Layout(replicate=2), tmp_path, there.url)
        assert there.metric('bloomery_requests_total{path="/v1/weights/{version}",status="200"}') > 6


def on_two_as_on_one(layout: Layout, folder: Path, *servers: str) -> None:
    alone = written(Layout(), folder / "alone", *servers)
    shutil.copytree(folder / "alone", folder / "store", ignore=shutil.ignore_patterns("rloo-*", "ppo-*", "dapo-*", "*.lease"))
    shared, _ = on_ranks(2, written, layout, folder / "store", *servers, timeout_s=400)
    for ours, theirs in zip(shared, alone, strict=True):
        for line, wanted in zip(lines(ours / "metrics.jsonl"), lines(theirs / "metrics.jsonl"), strict=True):
            untimed = {name: value for name, value in wanted.items() if name not in ("tokens_per_s", "utilisation")}
            assert {name: line[name] for name in untimed} == pytest.approx(untimed, rel=1e-4, abs=1e-5)
        weights, wholes = (load_file(path / "model" / "model.safetensors") for path in (ours, theirs))
        for name, whole in wholes.items():
            torch.testing.assert_close(weights[name], whole, rtol=1e-4, atol=1e-4 if servers else 1e-5)  # whose states are read in any order


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return under(Layout(), tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", [Layout(shard=2)], ids=str)
def test_two_ranks_roll_back_as_one_does_and_answer_in_the_end(layout: Layout, alone: Path, tmp_path: Path):
    shutil.copytree(alone.parents[1], tmp_path / "store", ignore=shutil.ignore_patterns("Train", "*.lease"))
    first, last = on_ranks(2, under, layout, tmp_path / "store", timeout_s=400)
    assert first == last
    ours, theirs = (json.loads((path / "manifest.json").read_text())["summary"]["healing"] for path in (first, alone))
    assert ours == theirs
    assert ours["roll back"] >= 1
    ours, theirs = (lines(path / "metrics.jsonl") for path in (first, alone))
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    losses, expected = ([line["loss"] for line in some if "loss" in line] for some in (ours, theirs))
    assert losses == pytest.approx(expected, rel=1e-4)
    weights, wholes = (load_file(path / "model" / "model.safetensors") for path in (first, alone))
    for name, whole in wholes.items():
        torch.testing.assert_close(weights[name], whole, rtol=1e-4, atol=1e-5)
    assert not (first / "snapshots").exists()
    assert lines(first / "samples.jsonl") == lines(alone / "samples.jsonl")[-1:]
