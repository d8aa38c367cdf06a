"""The optimiser's state goes from one phase to the next by canonical names, under any layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bloomery.core.errors import ArtifactError
from bloomery.mesh import ALONE, Layout, Mesh
from bloomery.optim import AdamW, LastLayers, Muon
from bloomery.train import TrainState
from bloomery.train.checkpoints.carried import carry_slots, leave_slots
from bloomery.train.spreading import fresh, spread_model
from tests.mesh.ranks import on_ranks
from tests.train.toys import TINY, reports


def started(optimizer, mesh=ALONE, trainable=None) -> TrainState:
    parts = spread_model(TINY, mesh, fresh(TINY, 0), *([] if trainable is None else [trainable]))
    return TrainState(parts.model, optimizer.of(parts.members), holding=parts.holding)


@pytest.mark.parametrize("optimizer", [AdamW(learning_rate=1e-2), Muon()], ids=["adamw", "muon"])
def test_what_both_phases_train_goes_on_and_the_rest_is_fresh(tmp_path, optimizer):
    first = started(optimizer, trainable=LastLayers(count=1))
    reports(first, steps=3)
    leave_slots(tmp_path, first)
    second = started(optimizer)
    trained = {path.rsplit("|", 1)[0] for path in first.optimizer.state()}
    assert carry_slots(tmp_path, second) == len(trained) < len(second.holding.parameters)
    carried = second.optimizer.state()
    assert carried.keys() == first.optimizer.state().keys()
    assert all(torch.equal(value, carried[path]) for path, value in first.optimizer.state().items())
    reports(second, steps=2)
    steps = {path.removesuffix("|step"): float(value) for path, value in second.optimizer.state().items() if path.endswith("|step")}
    assert all(count == (5 if name in trained else 2) for name, count in steps.items())


def test_a_phase_that_trains_less_takes_less(tmp_path):
    first = started(AdamW())
    reports(first, steps=2)
    leave_slots(tmp_path, first)
    second = started(AdamW(), trainable=LastLayers(count=1))
    assert carry_slots(tmp_path, second) == len(second.holding.trainable()) < len(first.holding.trainable())


def test_leaving_twice_leaves_one(tmp_path):
    state = started(AdamW())
    reports(state, steps=2)
    leave_slots(tmp_path, state)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    leave_slots(tmp_path, state)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_without_state_and_one_with_a_changed_byte_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="holds no state of an optimiser"):
        carry_slots(tmp_path, started(AdamW()))
    state = started(AdamW())
    reports(state, steps=1)
    leave_slots(tmp_path, state)
    (file,) = tmp_path.rglob("*.safetensors")
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="checksum is not the one written"):
        carry_slots(tmp_path, started(AdamW()))


def leave_on_rank(folder: str) -> None:
    state = started(AdamW(learning_rate=1e-2), Mesh.join(Layout(shard=2)))
    reports(state, steps=3)
    leave_slots(Path(folder), state)


@pytest.mark.timeout(300)
def test_what_two_ranks_leave_one_goes_on_with(tmp_path):
    on_ranks(2, leave_on_rank, str(tmp_path), timeout_s=280)
    alone, carried = started(AdamW(learning_rate=1e-2)), started(AdamW(learning_rate=1e-2))
    reports(alone, steps=3)
    carry_slots(tmp_path, carried)
    theirs = carried.optimizer.state()
    assert theirs.keys() == alone.optimizer.state().keys()
    for path, value in alone.optimizer.state().items():
        torch.testing.assert_close(theirs[path], value, rtol=1e-3, atol=1e-7, msg=path)
