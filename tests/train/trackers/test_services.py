"""Adapters of aim, trackio and wandb: the calls that they make, and (where the packages are) what the real ones then know."""

import gc
import sys
from types import SimpleNamespace

import pytest

from bloomery.train.trackers import Aim, Session, Trackio, Wandb

RUN = "Train/main-0123456789ab"
SETTINGS = {"optimizer.learning_rate": 0.001, "sources[0].tokens": "Tokenize/main-ba9876543210", "ema": None}


def session(folder, step=None):
    return Session(run=RUN, folder=folder, step=step, settings=SETTINGS)


def two_sessions(kind, folder):
    """Steps 1 to 3; then, as after a kill that lost step 3's checkpoint, 3 and 4."""
    for step, steps in ((None, (1, 2, 3)), (2, (3, 4))):
        tracker = kind(session(folder, step))
        for at in steps:
            tracker.write(at, {"loss": 1 / at, "held_out/aside/loss": 2.0})
        tracker.close()
        del tracker
        gc.collect()  # Aim's database is closed when nobody holds it; a real second session is another process


class Log:
    """Stands for a package's run: notes what is called on it."""

    def __init__(self):
        self.calls, self.items = [], {}

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))

    def __setitem__(self, name, value):
        self.items[name] = value


def test_trackio_is_told_project_name_settings_and_steps(tmp_path, monkeypatch):
    begun, log = [], Log()
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=lambda **fields: begun.append(fields) or log))
    two_sessions(Trackio, tmp_path)
    assert [(b["project"], b["name"], b["resume"], b["config"]) for b in begun] == [("bloomery", RUN, "allow", SETTINGS)] * 2
    assert [(name, kwargs) for name, _, kwargs in log.calls] == [
        *(("log", {"step": step}) for step in (1, 2, 3)), ("finish", {}), *(("log", {"step": step}) for step in (3, 4)), ("finish", {}),
    ]  # fmt: skip
    assert log.calls[1][1] == ({"loss": 0.5, "held_out/aside/loss": 2.0},)


@pytest.mark.parametrize(
    ("set_up", "logged_in", "mode"), [(set(), False, "offline"), ({"mode"}, False, None), (set(), True, None), ({"project"}, False, "offline")]
)
def test_wandb_is_offline_unless_it_is_set_up_otherwise(set_up, logged_in, mode, tmp_path, monkeypatch):
    begun, log = [], Log()
    known = SimpleNamespace(model_fields_set=set_up, project="ours" if "project" in set_up else None)
    fake = SimpleNamespace(
        setup=lambda: SimpleNamespace(settings=known), login=lambda prompt: logged_in, Settings=dict,
        init=lambda **fields: begun.append(fields) or log,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", fake)
    two_sessions(Wandb, tmp_path)
    assert [(b["id"], b["name"], b["resume"], b["mode"]) for b in begun] == [("Train-main-0123456789ab", RUN, "allow", mode)] * 2
    assert begun[0]["project"] == ("ours" if "project" in set_up else "bloomery")
    assert [args[0]["step"] for name, args, _ in log.calls if name == "log"] == [1, 2, 3, 3, 4]
    assert ("define_metric", ("*",), {"step_metric": "step"}) in log.calls


def test_aim_finds_a_run_by_its_name_and_takes_its_lock(tmp_path, monkeypatch):
    runs: list[Log] = [Log()]
    runs[0].name, runs[0].hash = "Train/other-000000000000", "a"

    def run(run_hash, **fields):
        if run_hash is None:
            runs.append(Log())
            runs[-1].hash = "b"
        found = next(r for r in runs if r.hash == (run_hash or "b"))
        found.fields = fields
        return found

    def query(text, report_mode):
        return SimpleNamespace(iter_runs=lambda: (SimpleNamespace(run=r) for r in runs if text == f"run.name == {r.name!r}"))

    repo = SimpleNamespace(query_runs=query)
    monkeypatch.setitem(sys.modules, "aim", SimpleNamespace(Run=run, Repo=SimpleNamespace(default_repo=lambda init: repo)))
    two_sessions(Aim, tmp_path)
    assert [r.name for r in runs] == ["Train/other-000000000000", RUN]
    assert runs[0].calls == []
    assert runs[1].items == {"settings": SETTINGS}
    assert runs[1].fields["force_resume"]
    assert [kwargs["step"] for name, _, kwargs in runs[1].calls if name == "track"] == [1, 2, 3, 3, 4]


def test_the_real_trackio_keeps_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio", reason="needs the extra [trackio]")
    from trackio.sqlite_storage import SQLiteStorage

    two_sessions(Trackio, tmp_path)
    assert SQLiteStorage.get_runs("bloomery") == [RUN]
    logs = SQLiteStorage.get_logs("bloomery", RUN)
    assert {(x["step"], x["loss"]) for x in logs} == {(step, 1 / step) for step in (1, 2, 3, 4)}


def test_the_real_aim_keeps_one_run_with_each_step_once(tmp_path, monkeypatch):
    aim = pytest.importorskip("aim", reason="needs the extra [aim]")
    monkeypatch.chdir(tmp_path)
    two_sessions(Aim, tmp_path)
    (found,) = aim.Repo(str(tmp_path)).query_runs(report_mode=0).iter_runs()
    assert found.run.name == RUN
    run = aim.Run(found.run.hash, repo=str(tmp_path), force_resume=True, system_tracking_interval=None)  # read before Aim's server indexes it
    assert run["settings", "optimizer.learning_rate"] == 0.001
    (loss,) = (metric for metric in run.metrics() if metric.name == "loss")
    assert sorted(loss.values.sparse_numpy()[1].tolist()) == [1 / step for step in (4, 3, 2, 1)]


def test_the_real_wandb_writes_runs_of_one_id_to_this_machine(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra [wandb]")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "no.netrc"))
    two_sessions(Wandb, tmp_path)
    assert {file.name for file in tmp_path.rglob("run-*.wandb")} == {"run-Train-main-0123456789ab.wandb"}
