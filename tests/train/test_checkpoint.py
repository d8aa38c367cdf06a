"""Checkpoints: bitwise, whole or refused, the newest two and those that are kept for good."""

import json

import pytest
import torch

from bloomery.core.errors import ArtifactError, ResourceError
from bloomery.mesh import ALONE
from bloomery.optim import AdamW, Muon
from bloomery.train import Checkpoints, Keep, Manner, train
from bloomery.train.checkpoints.folder import MANIFEST, USUAL, found
from bloomery.train.healing import Ledger
from tests.train.toys import ROWS, Uneven, course, fresh, reports, same, weights


def run_with_checkpoints(folder, state, every=2, stop=None, keep=USUAL):
    checkpoints = Checkpoints(folder, ALONE, keep, say=[].append)
    for report in train(state, Uneven(), course(), Manner(micro_batch=4)):
        if report.step % every == 0:
            checkpoints.save(state)
        if report.step == stop:
            break
    checkpoints.settle()


def resume(folder, state, say=print, facts=None):
    return Checkpoints(folder, ALONE, facts=facts, say=say).resume(state)


@pytest.mark.parametrize("optimizer", [AdamW(learning_rate=1e-2), Muon(learning_rate=1e-2)], ids=str)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_resume_equals_uninterrupted_bitwise(tmp_path, optimizer, ema):
    whole, torn, resumed = fresh(optimizer, ema), fresh(optimizer, ema), fresh(optimizer, ema)
    losses = [r.loss for r in train(whole, Uneven(), course(), Manner(micro_batch=4))]
    run_with_checkpoints(tmp_path, torn, stop=5)
    assert resume(tmp_path, resumed)
    assert resumed.step == 4
    assert [r.loss for r in train(resumed, Uneven(), course(), Manner(micro_batch=4))] == losses[4:]
    assert same(weights(whole), weights(resumed))
    if ema is not None:
        assert same(whole.average.values, resumed.average.values)
        assert whole.average.updates == resumed.average.updates


def test_only_the_newest_two_are_kept(tmp_path):
    run_with_checkpoints(tmp_path, fresh(), every=1)
    assert [path.name for path in found(tmp_path)] == ["step-00000008", "step-00000007"]


def test_those_of_a_period_are_kept_for_good(tmp_path):
    run_with_checkpoints(tmp_path, fresh(), every=1, keep=Keep(last=1, every=3))
    assert [path.name for path in found(tmp_path)] == ["step-00000008", "step-00000006", "step-00000003"]


@pytest.mark.parametrize("file", ["rank-00000.safetensors", "rank-00000.json", MANIFEST])
def test_a_flipped_byte_is_said_and_the_one_before_is_used(tmp_path, file):
    run_with_checkpoints(tmp_path, fresh())
    damaged = tmp_path / "step-00000008" / file
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0x81
    damaged.write_bytes(data)
    said, state = [], fresh()
    assert resume(tmp_path, state, said.append)
    assert state.step == 6
    assert f"step-00000008/{file} is damaged" in said[0]
    reports(state, micro_batch=4)
    whole = fresh()
    reports(whole, micro_batch=4)
    assert same(weights(state), weights(whole))


def test_a_manifest_that_tells_another_step_is_not_believed(tmp_path):
    run_with_checkpoints(tmp_path, fresh())
    manifest = tmp_path / "step-00000008" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"step": 8', '"step": 7'))
    state = fresh()
    assert resume(tmp_path, state)
    assert state.step == 6


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    run_with_checkpoints(tmp_path, fresh())
    (tmp_path / "step-00000008" / MANIFEST).unlink()
    said, state = [], fresh()
    assert resume(tmp_path, state, said.append)
    assert state.step == 6
    assert "torn" in said[0]


def test_where_none_is_whole_the_run_starts_again_and_says_so(tmp_path):
    run_with_checkpoints(tmp_path, fresh())
    for path in found(tmp_path):
        (path / "rank-00000.safetensors").write_bytes(b"")
    said, state = [], fresh()
    before = weights(state)
    assert not resume(tmp_path, state, said.append)
    assert "starting again from step 0" in said[-1]
    assert same(before, weights(state))
    assert not found(tmp_path)


def test_nothing_there_is_nothing_to_resume(tmp_path):
    said = []
    assert not resume(tmp_path / "checkpoints", fresh(), said.append)
    assert said == []


def test_micro_batch_of_the_manner_does_not_enter_the_state(tmp_path):
    state = fresh()
    run_with_checkpoints(tmp_path, state, stop=4)
    resumed = fresh()
    resume(tmp_path, resumed)
    last = list(train(resumed, Uneven(), course(), Manner(micro_batch=ROWS)))[-1]
    whole = reports(fresh(), micro_batch=4)[-1]
    assert last.loss == pytest.approx(whole.loss, rel=1e-5)
    assert torch.isfinite(torch.tensor(last.grad_norm))


def test_what_is_saved_is_the_state_of_that_moment_though_training_goes_on(tmp_path):
    state, checkpoints = fresh(ema=0.9), Checkpoints(tmp_path, ALONE)
    steps = train(state, Uneven(), course(), Manner(micro_batch=ROWS))
    next(steps), next(steps)
    then = weights(state)
    checkpoints.save(state)
    next(steps), next(steps)  # the thread may or may not have written by now
    checkpoints.settle()
    resumed = fresh(ema=0.9)
    assert resume(tmp_path, resumed)
    assert same(weights(resumed), then)
    assert not same(weights(state), then)


def test_the_ledger_goes_with_the_state(tmp_path):
    state, resumed = fresh(), fresh()
    state.known, state.update = Ledger(losses=(9.5,), jumps=((3, 12),), events=({"step": 3},)), torch.tensor([0.1, 1.0])
    run_with_checkpoints(tmp_path, state)
    assert resume(tmp_path, resumed)
    assert resumed.known == Ledger(losses=(9.5,), jumps=((3, 12),), events=({"step": 3},))
    assert torch.equal(resumed.update, torch.tensor([0.1, 1.0]))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    state = fresh()
    checkpoints = Checkpoints(tmp_path, ALONE, facts=course(seed=1).facts)
    reports(state)
    checkpoints.save(state)
    checkpoints.settle()
    assert resume(tmp_path, fresh(), facts=course(seed=1).facts)
    with pytest.raises(ArtifactError, match="was written with seed=1, and this run has 2"):
        resume(tmp_path, fresh(), facts=course(seed=2).facts)


def test_memory_that_does_not_hold_what_was_saved_is_noticed(tmp_path, monkeypatch):
    from bloomery.train.checkpoints.reader import Reader

    run_with_checkpoints(tmp_path, fresh())
    read = Reader.read

    def misread(self, key, part):
        out = read(self, key, part)
        if key == "optimizer/embedding.weight|exp_avg":
            out[3, 4], out[4, 3] = out[4, 3].clone(), out[3, 4].clone()
        return out

    monkeypatch.setattr(Reader, "read", misread)
    with pytest.raises(ArtifactError, match=r"what memory holds of optimizer/embedding\.weight\|exp_avg is not what was saved"):
        resume(tmp_path, fresh())


def test_one_that_cannot_be_written_costs_nothing_but_the_last_is_an_error(tmp_path, monkeypatch):
    import errno

    from bloomery.train.checkpoints import checkpoints as module

    said, state = [], fresh()
    checkpoints = Checkpoints(tmp_path, ALONE, say=said.append)
    steps = train(state, Uneven(), course(), Manner(micro_batch=ROWS))
    next(steps)
    checkpoints.save(state)
    checkpoints.settle()
    with monkeypatch.context() as patch:

        def full(path, rank, saved):
            path.mkdir()
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(module, "write_rank", full)
        next(steps)
        checkpoints.save(state)
        next(steps)
        with pytest.raises(ResourceError, match="the disk is full"):
            checkpoints.settle()
        assert "step-00000002 is not there, and the run goes on with those before it: " in said[-1]
        assert [path.name for path in found(tmp_path)] == ["step-00000001"]
    checkpoints.save(state)
    checkpoints.settle()
    assert [path.name for path in found(tmp_path)] == ["step-00000003", "step-00000001"]


def test_a_manifest_says_where_in_the_data_it_stands(tmp_path):
    state = fresh()
    reports(state)
    checkpoints = Checkpoints(tmp_path, ALONE, facts=course().facts)
    checkpoints.save(state)
    checkpoints.settle()
    manifest = json.loads((tmp_path / "step-00000008" / MANIFEST).read_text())
    assert manifest["facts"]["rows"] * manifest["step"] == 8 * ROWS
    assert manifest["facts"]["seed"] == 0
    assert manifest["layout"] == "one rank"


def test_after_a_roll_back_the_new_course_is_gone_on_from(tmp_path):
    state, checkpoints = fresh(), Checkpoints(tmp_path, ALONE)
    for _ in train(state, Uneven(), course(steps=4), Manner(micro_batch=ROWS)):
        checkpoints.save(state)
    state.step, state.known = 3, Ledger(jumps=((3, 12),))  # as if to a copy in memory
    checkpoints.save(state)
    checkpoints.settle()
    assert [path.name for path in found(tmp_path)] == ["step-00000003.01", "step-00000003"]
    resumed = fresh()
    assert resume(tmp_path, resumed)
    assert (resumed.step, resumed.known) == (3, Ledger(jumps=((3, 12),)))
