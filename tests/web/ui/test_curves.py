"""What a run has told, read as it grows."""

from __future__ import annotations

import json
import os
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bloomery.web.ui.curves import Curves, Known, extremes, lines_of
from tests.web.ui.places import line


def curves_of(path) -> Curves:
    curves = Curves(path)
    curves.read_on()
    return curves


def test_a_file_is_read_on_from_where_it_ended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2)[:20])
    curves = curves_of(path)
    assert curves.thinned()["loss"]["step"] == [1]
    with open(path, "a") as file:
        file.write(line(2)[20:] + line(3))
    curves.read_on()
    assert curves.thinned()["loss"] == {
        "step": [1, 2, 3], "tokens": [512, 1024, 1536], "time": [0.512, 1.024, 1.536], "value": [0.5, 0.333333, 0.25],
    }  # fmt: skip
    assert curves.last["step"] == 3
    assert set(curves.thinned(after=2)["loss"]["step"]) == {3}


def test_time_is_what_steps_took_one_after_another_and_what_is_measured_between_has_it_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    more = [json.dumps({"step": step, "held_out/x/loss": 1.0}) + "\n" for step in (0, 2)]
    path.write_text(more[0] + line(1) + line(2, tokens_per_s=512.0) + more[1] + line(3, tokens_per_s=0.0) + line(4))
    found = curves_of(path).thinned()
    assert found["loss"]["time"] == [0.512, 1.512, 2.024, 2.536]  # a step of unknown speed lies between those beside it
    assert found["held_out/x/loss"]["time"] == [0.0, 1.512]


def test_what_an_interrupted_run_tells_anew_takes_the_place_of_what_it_told(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2, 5.0) + line(3, 6.0) + line(2, 0.5) + json.dumps({"step": 2, "held_out/x/loss": 1.0}) + "\n")
    found = curves_of(path).thinned()
    assert (found["loss"]["step"], found["loss"]["value"]) == ([1, 2], [0.5, 0.5])
    assert found["loss"]["time"] == [0.512, 1.024]
    assert found["held_out/x/loss"]["step"] == [2]


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2))
    curves = curves_of(path)
    (tmp_path / "new").write_text(line(1, 9.0))
    os.replace(tmp_path / "new", path)
    curves.read_on()
    assert curves.thinned()["loss"]["value"] == [9.0]


def test_what_is_no_line_of_figures_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('nonsense\n[1]\n{"step": "x"}\n{"loss": 1}\n' + line(1, float("nan")) + line(2))
    assert curves_of(path).thinned()["loss"]["value"] == [None, 0.333333]
    assert lines_of(tmp_path / "none", 5) == []


@given(st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=400), st.integers(4, 60))
def test_thinning_keeps_ends_and_extremes(values, points):
    values = np.array(values)
    keep = extremes(values, points)
    assert len(keep) <= max(points, 4)
    assert list(keep) == sorted(set(keep.tolist()))
    assert {0, len(values) - 1} <= set(keep.tolist())
    finite = values[~np.isnan(values)]
    if len(finite):
        assert {np.nanmin(values), np.nanmax(values)} <= set(values[keep][~np.isnan(values[keep])].tolist())


def test_only_so_many_runs_are_kept_in_memory(tmp_path):
    known = Known()
    for number in range(70):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "metrics.jsonl").write_text(line(1))
        assert known.of(tmp_path / str(number)) is not None
    assert len(known._curves) == 64
    assert known.of(tmp_path) is None


def test_a_hundred_thousand_steps_are_thinned_to_what_a_screen_shows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step, float(step == 77_777), grad_norm=1.0, learning_rate=0.1) for step in range(100_000)))
    began = time.perf_counter()
    found = curves_of(path).thinned()
    print(f"{time.perf_counter() - began:.2f} s")
    assert len(found["loss"]["value"]) <= 2000
    assert 77_777 in found["loss"]["step"]  # the one spike
