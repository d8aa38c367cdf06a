"""The ladder at work: faults are survived, documents named, and nothing is disturbed where there is no fault."""

import itertools
import shutil

import pytest
import torch

from bloomery.core.errors import NumericsError
from bloomery.mesh import ALONE
from bloomery.optim import Average
from bloomery.train import Checkpoints, Manner, train
from bloomery.train.guard import Guard
from bloomery.train.snapshots import InMemory, OnDisk
from tests.train import faults
from tests.train.faults import HEALING, ROWS, STEPS, Brittle, Jolt, Talk, batch_of, blamed, course, damage, events, poison, run, unseen
from tests.train.toys import same, weights

LATE = 93  # so late that without the ladder there is no time to make up for it


def fresh():
    return faults.fresh()


@pytest.fixture(scope="module")
def undisturbed():
    state = fresh()
    reports = run(state)
    return state, [report.loss for report in reports], unseen(state)


def test_a_run_without_faults_is_bitwise_what_it_is_without_the_ladder(undisturbed):
    state = fresh()
    assert [report.loss for report in run(state, healing=HEALING)] == undisturbed[1]
    assert same(weights(state), weights(undisturbed[0]))
    assert not events(state)


def test_a_report_tells_how_far_the_update_before_it_moved_the_weights():
    state = fresh()
    whole = lambda: torch.cat([p.detach().flatten() for p in state.model.parameters()])  # noqa: E731
    thetas, told = [whole()], []
    for report in itertools.islice(train(state, Talk(), course(healing=HEALING), Manner(micro_batch=ROWS)), 4):
        thetas.append(whole())
        told.append(report.update_norm)
    moved = [float((new - old).norm() / old.norm()) for old, new in itertools.pairwise(thetas)]
    assert told == [None, *(pytest.approx(size, rel=1e-4) for size in moved[:-1])]


def test_garbage_documents_are_named_exactly_and_leave_no_mark(undisturbed):
    garbage = batch_of(LATE, but=4)
    state, bare = fresh(), fresh()
    run(state, Talk(garbage), healing=HEALING)
    run(bare, Talk(garbage))
    assert events(state) == [(LATE, "skip", "loss")]
    assert blamed(state) == garbage
    assert unseen(state) == pytest.approx(undisturbed[2], rel=0.01)
    assert unseen(bare) > 1.01 * undisturbed[2]


def test_a_rate_far_too_high_is_brought_back(undisturbed):
    state, bare = fresh(), fresh()
    run(state, healing=HEALING, schedule=Jolt(at=LATE - 13))
    run(bare, schedule=Jolt(at=LATE - 13))
    assert {cause for _, _, cause in events(state)} == {"update"}
    assert [rung for _, rung, _ in events(state)][:4] == ["skip", "skip", "skip", "lower"]
    assert not blamed(state)
    assert unseen(state) == pytest.approx(undisturbed[2], rel=0.01)
    assert unseen(bare) > 1.01 * undisturbed[2]


def test_a_gradient_that_is_no_number_once_is_passed_over_and_no_document_is_blamed(undisturbed):
    state, bare = fresh(), fresh()
    poison(state.holding, LATE)
    run(state, healing=HEALING)
    poison(bare.holding, LATE)
    assert events(state) == [(LATE, "skip", "not finite")]
    assert not blamed(state)
    assert unseen(state) == pytest.approx(undisturbed[2], rel=0.01)
    with pytest.raises(NumericsError, match=f"step {LATE}"):
        run(bare)


@pytest.mark.parametrize(("clip_norm", "found"), [(None, [(30, "skip", "grad_norm")]), (0.1, [])])
def test_a_gradient_counts_as_large_as_it_reaches_the_optimiser(clip_norm, found):
    state = faults.fresh()
    poison(state.holding, step=30, factor=300.0)
    run(state, healing=HEALING, clip_norm=clip_norm, steps=40)
    assert events(state) == found


def test_documents_whose_gradient_is_no_number_are_found_by_their_gradients():
    state = fresh()
    brittle = {2 * ROWS * 20 + 3, 2 * ROWS * 20 + 8}
    run(state, Talk(brittle=brittle), steps=24, healing=HEALING, objective=Brittle())
    assert events(state) == [(21, "skip", "not finite")]
    assert blamed(state) == brittle


def test_a_skipped_step_touches_neither_weights_nor_moments_nor_average():
    state = fresh()
    state.average = Average(dict(state.model.named_parameters()), 0.9)
    steps = train(state, Talk(batch_of(30)), course(healing=HEALING), Manner(micro_batch=ROWS))
    list(itertools.islice(steps, 29))

    def everything():
        return {name: value.clone() for name, value in {**weights(state), **state.optimizer.state(), **state.average.values}.items()}

    before = everything()
    report = next(steps)
    assert [event.step for event in report.events] == [30]
    assert report.step == state.step == 30
    assert same(before, everything())


def test_an_update_that_is_too_large_is_taken_back_on_the_device():
    state = fresh()
    before, guard = weights(state), Guard(state.holding)

    def double():
        with torch.no_grad():
            for parameter in state.model.parameters():
                parameter *= 2

    size, refused = guard.update(double, 0.5).tolist()
    assert (size, refused) == (pytest.approx(1.0), 1.0)
    assert same(before, weights(state))
    assert guard.update(double, 1.5).tolist() == [pytest.approx(1.0), 0.0]
    assert not same(before, weights(state))


def test_an_update_that_is_no_number_is_taken_back_whatever_the_limit():
    state = fresh()
    before, guard = weights(state), Guard(state.holding)

    def spoil():
        with torch.no_grad():
            next(state.model.parameters()).fill_(float("nan"))

    assert guard.update(spoil, float("inf"))[1] == 1.0
    assert same(before, weights(state))


@pytest.mark.parametrize("on_disk", [pytest.param(False, marks=pytest.mark.slow), True])
def test_damaged_weights_lead_back_to_a_snapshot_and_on_with_rows_not_read_yet(undisturbed, tmp_path, on_disk):
    state = fresh()
    snapshots = OnDisk(tmp_path / "kept", tmp_path, ALONE) if on_disk else InMemory()
    for report in train(state, Talk(), course(healing=HEALING), Manner(micro_batch=ROWS), snapshots=snapshots):
        if report.step == 65 and not state.known.rollbacks:
            damage(state)
    assert [rung for _, rung, _ in events(state)] == ["skip"] * 3 + ["lower"] * 3 + ["roll back"]
    assert not blamed(state)  # it is the weights, and the documents of healthy steps fare no better
    back = state.known.events[-1]["back_to"]
    assert back == 50
    assert state.known.jumps == ((back, (72 - back) * ROWS),)
    assert state.step == STEPS
    assert unseen(state) == pytest.approx(undisturbed[2], rel=0.01)


def test_where_nothing_helps_the_run_stops_and_says_what_was_tried():
    state, healing = fresh(), HEALING.replace(skips=1, lowers=1, rollbacks=1)
    reports = train(state, Talk(), course(healing=healing), Manner(micro_batch=ROWS))
    with pytest.raises(NumericsError, match="skip 2 times, lower 2 times, roll back 1 times"):
        for report in reports:
            if report.step >= 40:
                damage(state)
    assert state.known.events[-1]["rung"] == "stop"


def test_a_corpus_that_is_garbage_from_some_point_on_stops_the_run():
    garbage = set(range(2 * ROWS * 60, 2 * ROWS * 100))
    with pytest.raises(NumericsError, match="stands out in its batch: doc-"):
        run(fresh(), Talk(garbage), healing=HEALING.replace(spoilt=3))


def test_rows_of_another_kind_that_the_source_announces_are_no_trouble():
    state = fresh()
    run(state, Talk(turn=60 * ROWS), healing=HEALING, steps=80)
    assert not events(state)


def test_a_resumed_run_decides_as_the_same_run_continued(tmp_path):
    """Before a trouble, in the midst of it, and after having been rolled back; what is left of the other sessions is there, too."""
    folder, whole = tmp_path / "checkpoints", fresh()

    def session(state, save=()):
        snapshots = OnDisk(tmp_path / "kept", folder, ALONE)
        reports = train(state, Talk(batch_of(58)), course(healing=HEALING), Manner(micro_batch=ROWS), snapshots=snapshots)
        for report in reports:
            if report.step == 65 and not state.known.rollbacks:
                damage(state)
            if report.step in save:
                checkpoints = Checkpoints(tmp_path / f"{report.step}-{state.known.rollbacks}", ALONE)
                checkpoints.save(state)
                checkpoints.settle()
                shutil.copytree(checkpoints.folder, folder, dirs_exist_ok=True)

    session(whole, save=(63, 69, 75))
    assert events(whole)[0] == (58, "skip", "loss")
    assert events(whole)[-1][1] == "roll back"
    saved = sorted(path.name for path in tmp_path.glob("*-*"))
    assert saved == ["63-0", "63-1", "69-0", "69-1", "75-1"]
    for name in saved:
        state = fresh()
        assert Checkpoints(tmp_path / name, ALONE).resume(state)
        session(state)
        assert state.known == whole.known
        assert same(weights(state), weights(whole))
