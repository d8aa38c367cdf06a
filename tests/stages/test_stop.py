"""A run that is asked to end by a file beside its work: it saves, leaves, and goes on to the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.core.errors import StoppedError
from bloomery.stages.run import PLAN, Run
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Watch
from bloomery.store import Store, read_json
from bloomery.store.store import STOP
from tests.stages.test_train import WEIGHTS, training


def test_it_saves_leaves_and_goes_on(tmp_path, monkeypatch):
    context = RunContext(store=Store(tmp_path / "one"), quiet=True, trackers=(), checkpoint_every_s=1000.0)
    stage = training(name="asked", steps=8, ema=None, watch=Watch())
    whole = stage.run(context)
    other = replace(context, store=Store(tmp_path / "other"))
    asked = other.store.path(stage.reference + STOP)
    asked.parent.mkdir(parents=True)
    asked.touch()  # of a run before, which nobody is to heed any more

    def record(self, report, progress, record=Run.record):
        record(self, report, progress)
        assert asked.exists() == (report.step > 5)
        if report.step == 5:
            asked.touch()

    with monkeypatch.context() as patch:
        patch.setattr(Run, "record", record)
        with pytest.raises(StoppedError, match="asked to end, saved at step 6; the same command goes on"):
            stage.run(other)
    assert not asked.exists()
    assert read_json(other.store.path(f"{stage.reference}.partial") / PLAN)["weights"]["planned"] > 0
    resumed = stage.run(other)
    assert resumed.manifest.files[WEIGHTS].sha256 == whole.manifest.files[WEIGHTS].sha256
    assert set(resumed.manifest.files) == set(whole.manifest.files)
    assert PLAN not in resumed.manifest.files
