"""Statistics of layers in a training's lines and on the page of its report."""

from dataclasses import replace

import pytest
import torch

from bloomery.stages.report import Report
from bloomery.stages.report.layers import grids_of, heat_map
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.train.statistics import Statistics
from tests.stages.test_train import WEIGHTS, Watch, interrupt, lines, training


def watched(statistics=None):
    return training(steps=6, watch=Watch(statistics=statistics))


@pytest.fixture
def context(tmp_path) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path), quiet=True, checkpoint_every_s=0.0)


def test_statistics_are_in_the_lines_also_of_a_run_that_goes_on_and_change_no_weight(context, tmp_path, monkeypatch):
    there = replace(context, store=Store(tmp_path / "there"))
    plain, whole = watched().run(context), watched(Statistics(every=2)).run(context)
    interrupt(monkeypatch, watched(Statistics(every=2)), there, after=3)
    resumed = watched(Statistics(every=2)).run(there)
    assert plain.manifest.files[WEIGHTS].sha256 == whole.manifest.files[WEIGHTS].sha256 == resumed.manifest.files[WEIGHTS].sha256
    found = [[line for line in lines(a.path / "metrics.jsonl") if "layers/0/activation_rms" in line] for a in (plain, whole, resumed)]
    assert [line["step"] for line in found[1]] == [2, 4, 6]
    assert found[0] == []
    assert found[1] == found[2]


def test_a_training_without_statistics_has_the_key_that_it_had(context):
    assert watched(None).key == training(steps=6, watch=Watch()).key
    assert watched(Statistics(every=2)).key != watched(None).key


def test_the_report_shows_layers_over_steps(context):
    report = Report(title="Layers", trainings=(watched(Statistics(every=1)),)).run(context)
    page = (report.path / "report.html").read_text()
    assert "Inside its layers" in page
    assert "size of gradients" in page
    assert "Inside its layers" not in (Report(title="None", trainings=(watched(),)).run(context).path / "report.html").read_text()


def test_a_grid_has_the_mean_over_heads_and_blanks_where_nothing_was_measured():
    metrics = [
        {"step": 2, "loss": 1.0}, {"step": 2, "layers/0/attention_entropy/0": 0.2, "layers/0/attention_entropy/1": 0.4},
        {"step": 4, "layers/0/attention_entropy/0": 0.5, "encoder/layers/1/attention_entropy/0": 0.1, "layers/0/weight_rms/key": 3.0},
    ]  # fmt: skip
    grids = grids_of(metrics)
    assert list(grids) == ["attention_entropy"]
    grid = grids["attention_entropy"]
    assert (grid.layers, grid.steps) == (["layers/0", "encoder/layers/1"], [2, 4])
    assert grid.values == [[pytest.approx(0.3), 0.5], [None, 0.1]]


def test_a_picture_has_a_bounded_size_and_the_same_bytes_each_time():
    metrics = [{"step": s, f"layers/{i}/activation_rms": s + i} for s in range(1, 1001) for i in range(3)]
    picture = heat_map("activation_rms", grids_of(metrics)["activation_rms"])
    assert picture == heat_map("activation_rms", grids_of(metrics)["activation_rms"])
    assert len(picture) < 60_000
    assert picture.count("<image") == 2  # the map, and its scale
