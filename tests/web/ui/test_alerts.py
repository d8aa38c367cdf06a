"""What is said of a run: each trouble seeded, and nothing where there is none."""

from __future__ import annotations

import json
import os
import time

import pytest

from bloomery.train.healing import Event
from bloomery.web.ui.alerts import alerts
from bloomery.web.ui.curves import Curves
from tests.web.ui.places import line


def said(folder, text, status="done", plan=None, stopping=False):
    path = folder / "metrics.jsonl"
    path.write_text(text)
    curves = Curves(path)
    curves.read_on()
    return alerts(curves, status, folder, plan or {}, stopping)


FINE = "".join(line(step) for step in range(1, 80))


@pytest.mark.parametrize("status", ["done", "running"])
def test_of_a_run_that_is_well_nothing_is_said(tmp_path, status):
    assert said(tmp_path, FINE, status, {"resident": {"planned": 10, "measured": 10, "ratio": 1.0}}) == []


def test_what_the_watch_of_rewards_noticed_is_said(tmp_path):
    noticed = json.dumps({"step": 80, "tokens": 800, "loss": 2.0, "noticed": "step 80: … the reward is over-optimised"})
    assert said(tmp_path, FINE + noticed + "\n" + line(81), "running") == [("bad", "step 80: … the reward is over-optimised.")]


def test_a_run_that_has_ended_before_its_end_goes_on(tmp_path):
    ((level, told),) = said(tmp_path, FINE, "stopped")
    assert level == "warn"
    assert "step 79" in told
    assert "the same command goes on" in told


def test_a_run_that_stands_still_is_seen_unless_it_was_asked_to_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(FINE)
    os.utime(path, (0, time.time() - 600))
    curves = Curves(path)
    curves.read_on()
    ((level, told),) = alerts(curves, "running", tmp_path, {}, False)
    assert (level, told.split(" s;")[0][:12]) == ("bad", "No step for ")
    assert alerts(curves, "running", tmp_path, {}, True) == []
    assert alerts(curves, "done", tmp_path, {}, False) == []


def test_bad_steps_are_said_in_words_the_worst_first(tmp_path):
    events = [
        Event(step=7, cause="loss", rung="skip", loss=9.0, grad_norm=1.0, limit=2.5, documents=({"id": "web#7"},)),
        Event(step=9, cause="not finite", rung="roll back", loss=float("nan"), grad_norm=float("inf"), back_to=5),
    ]  # fmt: skip
    told = said(tmp_path, FINE + line(80, healing=[event.plain() for event in events]))
    assert told == [
        ("bad", "step 9: the loss or the norm of the gradient is not finite; going back to step 5, and on with rows not read yet."),
        ("warn", "step 7: the loss is 9, above 2.5; its update is not made; what stands out in its batch: web#7."),
    ]  # fmt: skip
    assert Event.of(json.loads(json.dumps(events[0].plain()))) == events[0]


def test_a_held_out_loss_that_rises_again_is_said(tmp_path):
    text = FINE + "".join(json.dumps({"step": step, "held_out/unread/loss": loss}) + "\n" for step, loss in ((20, 2.0), (40, 1.5), (60, 1.6)))
    ((_, told),) = said(tmp_path, text)
    assert told.startswith("held_out/unread/loss was 1.5 at step 40 and is 1.6 now")


def test_a_run_that_is_slow_or_takes_more_memory_than_planned_is_said(tmp_path):
    slow = FINE + "".join(line(step, tokens_per_s=100.0) for step in range(80, 101))
    told = said(tmp_path, slow, "running", {"tensors": {"planned": 10, "measured": 15, "ratio": 1.5}})
    assert [text.split(":")[0][:12] for _, text in told] == ["It is slow", "It takes 150"]
