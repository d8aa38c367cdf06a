"""Trackers: what they are told, that none can stop a run, and that a run that goes on is the same run there."""

import threading
from typing import get_args

import click
import pytest

from bloomery.core.errors import ConfigError
from bloomery.stages.stage import TrackerName
from bloomery.train.trackers import TRACKERS, Aim, Service, Session, TensorBoard, Tracker, Trackers, Trackio, Wandb, service


def session(folder, step=None, run="Train/main-0123456789ab"):
    return Session(run=run, folder=folder, step=step, settings={"optimizer.learning_rate": 0.001})


class Good(Tracker):
    def __init__(self, session):
        self.told = []

    def write(self, step, values):
        self.told.append((step, values))

    def close(self):
        self.told.append("closed")


class Gone(Good):
    def __init__(self, session):
        raise ConnectionError("no route to host")


class Full(Good):
    def write(self, step, values):
        raise OSError(28, "No space left on device")


def test_command_line_context_and_room_name_the_same_trackers():
    from bloomery.cli.main import run

    option = next(p for p in run.params if p.name == "trackers")
    assert isinstance(option.type, click.Choice)
    assert set(option.type.choices) - {"none"} == set(TRACKERS) == set(get_args(TrackerName))


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(tmp_path):
    said = []
    trackers = Trackers((Gone, Full, Good), session(tmp_path), said.append)
    (good,) = (t for t in trackers._open if type(t) is Good)
    for step in (1, 2, 3):
        trackers.write(step, {"loss": 1.0})
    trackers.close()
    assert [line.split(" failed")[0] for line in said] == ["the tracker Gone", "the tracker Full"]
    assert "no route to host" in said[0]
    assert "No space left" in said[1]
    assert good.told == [(1, {"loss": 1.0}), (2, {"loss": 1.0}), (3, {"loss": 1.0}), "closed"]


@pytest.mark.parametrize(("kind", "module"), [(Aim, "aim"), (Trackio, "trackio"), (Wandb, "wandb")])
def test_a_missing_package_is_an_error_that_names_the_extra(kind, module, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ConfigError, match=rf"{kind.__name__} needs another package; pip install 'bloomery\[{module}\]'"):
        Trackers((kind,), session(tmp_path), print)


def test_tensorboard_reads_the_scalars_and_hides_what_was_redone(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps, value in ((None, range(1, 5), 1.0), (2, range(3, 6), 2.0)):
        scalars = TensorBoard(session(tmp_path, start))
        for step in steps:
            scalars.write(step, {"loss": value})
        scalars.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]


def test_tensorboard_of_a_run_from_the_start_forgets_an_earlier_one(tmp_path):
    for _ in range(2):
        TensorBoard(session(tmp_path)).close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


class Slow(Service):
    """A service that answers when `answers` is set."""

    patience_s = 0.05
    answers: threading.Event

    def begin(self, session):
        self.got = []
        self.answers.wait(10)

    def send(self, step, values):
        self.got.append((step, values))

    def end(self):
        self.got.append("ended")


def test_a_service_that_is_late_gets_everything_in_order(tmp_path):
    class Late(Slow):
        answers = threading.Event()
        patience_s = 30.0

    late = Late(session(tmp_path))
    figures = {"loss": 1.0}
    late.write(1, figures)
    figures["loss"] = 2.0  # the caller's own again
    late.write(2, figures)
    late.answers.set()
    late.close()
    assert late.got == [(1, {"loss": 1.0}), (2, {"loss": 2.0}), "ended"]


def test_a_service_that_never_answers_holds_up_nothing(tmp_path):
    class Never(Slow):
        answers = threading.Event()

    said = []
    trackers = Trackers((Never,), session(tmp_path), said.append)
    trackers.write(1, {"loss": 1.0})
    assert said == []
    trackers.close()
    Never.answers.set()
    assert len(said) == 1
    assert "did not take the last figures within 0.05 s" in said[0]


def test_a_service_that_lags_too_far_behind_is_given_up(tmp_path, monkeypatch):
    class Never(Slow):
        answers = threading.Event()

    monkeypatch.setattr(service, "MOST_WAITING", 3)
    said = []
    trackers = Trackers((Never,), session(tmp_path), said.append)
    for step in range(10):
        trackers.write(step, {"loss": 1.0})
    trackers.close()
    Never.answers.set()
    assert len(said) == 1
    assert "lags 3 writes behind" in said[0]


def test_an_error_in_the_services_thread_comes_up_in_ours(tmp_path):
    class Down(Slow):
        def begin(self, session):
            raise ConnectionRefusedError("port 6006")

    said = []
    trackers = Trackers((Down,), session(tmp_path), said.append)
    trackers._open[0]._thread.join()
    trackers.write(1, {"loss": 1.0})
    trackers.close()
    assert len(said) == 1
    assert "ConnectionRefusedError: port 6006" in said[0]
