"""A training and its trackers: they are told every figure, know the run again, and change nothing."""

from dataclasses import replace

import pytest
import torch

from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.train.trackers import TRACKERS, Tracker
from tests.stages.test_train import WEIGHTS, Watch, interrupt, lines, training


@pytest.fixture
def context(tmp_path) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path), checkpoint_every_s=0.0, progress_every_s=60.0)


@pytest.fixture
def told(monkeypatch):
    """What the tracker "aim" is told; another stands in its place."""
    told = []

    class Told(Tracker):
        def __init__(self, session):
            told.append(session)

        def write(self, step, values):
            told.append((step, dict(values)))

        def close(self):
            told.append("closed")

    monkeypatch.setitem(TRACKERS, "aim", Told)
    return told


def small(**changes):
    return training(steps=6, watch=Watch(every=3), **changes)


def test_a_tracker_is_told_what_the_lines_have_and_the_run_that_goes_on(told, context, monkeypatch):
    context = replace(context, trackers=("aim",), quiet=True)
    interrupt(monkeypatch, small(), context, after=4)
    artifact = small().run(context)
    first, second = (x for x in told if not isinstance(x, tuple | str))
    assert first.run == second.run == small().reference
    assert (first.step, second.step) == (None, 4)
    assert first.settings["max_seq_len"] == 32
    assert told.count("closed") == 2
    assert [x[0] for x in told if isinstance(x, tuple)] == [1, 2, 3, 4, 5, 6]
    written = [{k: v for k, v in x.items() if k not in ("step", "tokens", "learnt")} for x in lines(artifact.path / "metrics.jsonl")]
    assert [x[1] for x in told if isinstance(x, tuple)] == written
    assert not any(name.startswith("tensorboard/") for name in artifact.manifest.files)


def test_a_tracker_that_fails_changes_neither_weights_nor_lines(context, tmp_path, monkeypatch, capsys):
    class Broken(Tracker):
        def __init__(self, session):
            pass

        def write(self, step, values):
            if step == 2:
                raise ConnectionError("the server is gone")

        def close(self):
            raise AssertionError("it is not asked again")

    monkeypatch.setitem(TRACKERS, "wandb", Broken)
    broken = small().run(replace(context, trackers=("wandb", "tensorboard")))
    said = capsys.readouterr().out
    none = small().run(replace(context, store=Store(tmp_path / "none"), trackers=()))
    assert said.count("the tracker Broken failed") == 1
    assert "the server is gone" in said
    assert broken.manifest.files[WEIGHTS].sha256 == none.manifest.files[WEIGHTS].sha256
    assert [x["loss"] for x in lines(broken.path / "metrics.jsonl")] == [x["loss"] for x in lines(none.path / "metrics.jsonl")]
    assert any(name.startswith("tensorboard/") for name in broken.manifest.files)
