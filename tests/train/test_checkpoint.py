"""Checkpoints: bitwise, whole or refused, the newest two."""

import pytest
import torch

from bloomery.optim import AdamW, Muon
from bloomery.train import Manner, resume, save_checkpoint, train
from bloomery.train.checkpoint import MANIFEST, checkpoints
from tests.train.toys import ROWS, Uneven, course, fresh, reports, same, weights


def run_with_checkpoints(folder, state, every=2, stop=None):
    for report in train(state, Uneven(), course(), Manner(micro_batch=4)):
        if report.step % every == 0:
            save_checkpoint(folder, state)
        if report.step == stop:
            return


@pytest.mark.parametrize("optimizer", [AdamW(learning_rate=1e-2), Muon(learning_rate=1e-2)], ids=str)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_resume_equals_uninterrupted_bitwise(tmp_path, optimizer, ema):
    whole, torn, resumed = fresh(optimizer, ema), fresh(optimizer, ema), fresh(optimizer, ema)
    losses = [r.loss for r in train(whole, Uneven(), course(), Manner(micro_batch=4))]
    run_with_checkpoints(tmp_path, torn, stop=5)
    assert resume(tmp_path, resumed, [].append)
    assert resumed.step == 4
    assert [r.loss for r in train(resumed, Uneven(), course(), Manner(micro_batch=4))] == losses[4:]
    assert same(weights(whole), weights(resumed))
    if ema is not None:
        assert same(whole.average.values, resumed.average.values)


def test_only_the_newest_two_are_kept(tmp_path):
    run_with_checkpoints(tmp_path, fresh(), every=1)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000008", "step-00000007"]


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", MANIFEST])
def test_a_flipped_byte_is_said_and_the_one_before_is_used(tmp_path, file):
    run_with_checkpoints(tmp_path, fresh())
    damaged = tmp_path / "step-00000008" / file
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0x81
    damaged.write_bytes(data)
    said, state = [], fresh()
    assert resume(tmp_path, state, said.append)
    assert state.step == 6
    assert "step-00000008" in said[0]
    reports(state, micro_batch=4)
    whole = fresh()
    reports(whole, micro_batch=4)
    assert same(weights(state), weights(whole))


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    run_with_checkpoints(tmp_path, fresh())
    (tmp_path / "step-00000008" / MANIFEST).unlink()
    said, state = [], fresh()
    assert resume(tmp_path, state, said.append)
    assert state.step == 6
    assert "torn" in said[0]


def test_where_none_is_whole_the_run_starts_again_and_says_so(tmp_path):
    run_with_checkpoints(tmp_path, fresh())
    for path in checkpoints(tmp_path):
        (path / "weights.safetensors").write_bytes(b"")
    said, state = [], fresh()
    before = weights(state)
    assert not resume(tmp_path, state, said.append)
    assert "starting again from step 0" in said[-1]
    assert same(before, weights(state))
    assert not checkpoints(tmp_path)


def test_nothing_there_is_nothing_to_resume(tmp_path):
    said = []
    assert not resume(tmp_path / "checkpoints", fresh(), said.append)
    assert said == []


def test_micro_batch_of_the_manner_does_not_enter_the_state(tmp_path):
    state = fresh()
    run_with_checkpoints(tmp_path, state, stop=4)
    resumed = fresh()
    resume(tmp_path, resumed, [].append)
    last = list(train(resumed, Uneven(), course(), Manner(micro_batch=ROWS)))[-1]
    whole = reports(fresh(), micro_batch=4)[-1]
    assert last.loss == pytest.approx(whole.loss, rel=1e-5)
    assert torch.isfinite(torch.tensor(last.grad_norm))
