"""Rows per forward pass: as told, as begun, or as the card has room for; and the plan foretells them."""

from dataclasses import replace

import pytest

from bloomery.core.errors import BloomeryError
from bloomery.mesh import Layout
from bloomery.models import LlamaConfig
from bloomery.planning.machines import Machine, machine
from bloomery.stages import micro_batch as choosing
from bloomery.stages import run
from bloomery.stages.anatomy import Planned
from bloomery.stages.planner import FILLED, here, most_rows, planner_of, setting, usual
from bloomery.stages.run import Run
from bloomery.stages.train import Watch
from bloomery.store import Store, read_json
from bloomery.train.recompute import Recompute
from tests.stages.test_train import MODEL, WEIGHTS, artifact, context, interrupt, training  # noqa: F401 (fixtures)

SHORT = {"ema": None, "steps": 4, "watch": Watch()}


def card(memory: int) -> Machine:
    """A GPU of so much memory, in words only."""
    return machine("h100").replace(memory=memory)


def memory_for(rows: int) -> int:
    """Of a card on which so many rows of the toy fit, and no more."""
    stage = training(**SHORT)
    planner = planner_of(stage.planned(MODEL), card(1 << 30), stage.rows)
    fewer, more = (planner.outlook(setting(planner, Layout(), taken, Recompute())).memory.total for taken in (rows, rows + 1))
    return round((fewer + more) / 2 / FILLED)


def begun(monkeypatch, stage, where, memory):
    """The micro-batch of a run that is cut off after a few steps on a card."""
    monkeypatch.setattr(run, "here", lambda device, precision: card(memory))
    return read_json(interrupt(monkeypatch, stage, where, after=1) / choosing.BEGUN)


@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_run_takes_the_rows_that_its_card_has_room_for_and_the_plan_foretells_them(rows, context, tmp_path, monkeypatch):  # noqa: F811
    stage, memory = training(**SHORT), memory_for(rows)
    assert begun(monkeypatch, stage, replace(context, store=Store(tmp_path)), memory) == {str(Layout()): rows}
    assert usual(planner_of(stage.planned(MODEL), card(memory), stage.rows), Layout()).micro_batch == rows


def test_a_run_goes_on_with_the_rows_that_it_began_with_on_another_card_to_the_same_bytes(context, tmp_path, monkeypatch):  # noqa: F811
    stage, where, taken = training(**SHORT), replace(context, store=Store(tmp_path / "moved")), []

    def noted(self, manner=Run._manner):
        taken.append(manner(self))
        return taken[-1]

    begun(monkeypatch, stage, where, memory_for(2))
    monkeypatch.setattr(Run, "_manner", noted)
    monkeypatch.setattr(run, "here", lambda device, precision: card(memory_for(1)))
    moved = stage.run(where)
    monkeypatch.setattr(run, "here", lambda device, precision: card(memory_for(2)))
    stayed = stage.run(replace(context, store=Store(tmp_path / "stayed")))
    assert [manner.micro_batch for manner in taken] == [2, 2]
    assert moved.manifest.files[WEIGHTS].sha256 == stayed.manifest.files[WEIGHTS].sha256
    assert choosing.BEGUN not in moved.manifest.files


def test_no_row_is_measured_where_the_micro_batch_is_told_and_what_is_told_comes_first(context, tmp_path, monkeypatch):  # noqa: F811
    stage, where = training(**SHORT), replace(context, store=Store(tmp_path))
    assert begun(monkeypatch, stage, where, memory_for(2)) == {str(Layout()): 2}

    def measured(*_):
        raise BloomeryError("a row was measured")

    monkeypatch.setattr("bloomery.train.machine.activation_bytes", measured)
    told = interrupt(monkeypatch, stage, replace(where, micro_batch=3), after=2)
    assert read_json(told / choosing.BEGUN) == {str(Layout()): 3}


def test_a_processor_gives_the_same_whatever_its_memory():
    stage = training(**SHORT)
    chosen = [usual(planner_of(stage.planned(MODEL), here().replace(memory=memory), stage.rows), Layout()) for memory in (1 << 20, 1 << 40)]
    assert chosen[0].micro_batch == chosen[1].micro_batch == stage.rows


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [2048, 32_768])
def test_what_is_chosen_on_a_card_fills_it_and_fits(vocab_size):
    model = LlamaConfig(vocab_size=vocab_size, d_model=256, n_layers=2, n_heads=4, max_seq_len=256)
    planner = planner_of(Planned(config=model, time=256, precision="bf16", guarded=True), card(1 << 30), 128)
    chosen = planner.outlook(usual(planner, Layout()))
    fewer = -(-128 // chosen.setting.micro_batch) - 1  # micro-batches
    more = setting(planner, Layout(), -(-128 // fewer), Recompute())
    assert 0.6 * FILLED < chosen.memory.total / planner.machine.memory <= FILLED < planner.outlook(more).memory.total / planner.machine.memory


@pytest.mark.slow
def test_what_is_computed_again_or_waits_elsewhere_makes_room_for_more_rows():
    model = LlamaConfig(vocab_size=512, d_model=256, n_layers=3, n_heads=4, max_seq_len=512)
    planned = Planned(config=model, time=512)
    elsewhere = (frozenset(), frozenset({"activations", "optimizer"}))
    plain, away = (planner_of(replace(planned, offload=one), card(200 << 20), 16) for one in elsewhere)
    rows = [most_rows(plain, Layout(), Recompute()), most_rows(plain, Layout(), Recompute("full")), most_rows(away, Layout(), Recompute())]
    assert rows[0] < min(rows[1:])
