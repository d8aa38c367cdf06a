"""The ladder: numbers in, what to do out."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.train.healing import Healing, Ledger, Signals, climb, nobody

HEALING = Healing(window=16, least=8, skips=2, lowers=2, rollbacks=1, calm=6, recovery=5)
USUAL = Signals(2.0, 1.0, 1e-3)
signals = st.builds(
    Signals, st.sampled_from([1.9, 2.0, 2.1, 9.0, math.nan]), st.sampled_from([0.9, 1.0, 1.1, 50.0, math.inf]),
    st.sampled_from([None, 9e-4, 1e-3, 1.1e-3]), st.just(False), st.just((0, 0)),
)  # fmt: skip


def after(steps, healing=HEALING, ledger=None, first=1, blame=nobody):
    """The ledger and all events after some signals."""
    ledger, events = ledger or Ledger(), []
    for step, one in enumerate(steps, start=first):
        ledger, found = climb(healing, ledger, step, one._replace(rows=(step * 4, 4)), blame)
        events += found
    return ledger, events


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0.92, 1.09), st.floats(0.5, 1.5), st.floats(0.7, 1.4)), min_size=20, max_size=60))
def test_what_varies_as_it_always_does_is_let_pass(noise):
    ledger, events = after([Signals(3 * a, b, 1e-3 * c) for a, b, c in noise], Healing(least=8))
    assert not events
    assert ledger.factor(HEALING) == 1.0


@settings(max_examples=20)
@given(st.floats(0.2, 20), st.floats(0.01, 0.9))
def test_a_warm_up_and_a_falling_loss_are_no_trouble(loss, fall):
    steps = [Signals(loss * (0.3 + 0.7 * fall ** (k / 20)), 1 + k / 100, 1e-4 * (k + 1)) for k in range(100)]
    assert not after(steps, Healing())[1]


@pytest.mark.parametrize(("signal", "cause"), [
    (Signals(2.6, 1.0), "loss"), (Signals(2.0, 4.5), "grad_norm"), (Signals(math.nan, 1.0), "not finite"),
    (Signals(2.0, math.inf), "not finite"),
])  # fmt: skip
def test_a_value_that_is_far_out_makes_a_step_bad(signal, cause):
    _, events = after([USUAL] * 10 + [signal])
    assert [(event.step, event.rung, event.cause) for event in events] == [(11, "skip", cause)]


def test_a_gradient_that_is_clipped_is_bad_only_where_it_is_not_finite():
    assert not after([USUAL] * 10 + [Signals(2.0, 90.0, clipped=True)])[1]
    assert after([USUAL] * 10 + [Signals(2.0, math.inf, clipped=True)])[1]


def test_a_few_surprising_targets_make_no_loss_bad():
    low = Signals(0.01, 1.0, 1e-3, learnt=16)  # as a classifier's is, when it knows its rows
    assert not after([low] * 10 + [low._replace(loss=0.01 + 45 / 16)])[1]  # three of sixteen, each 15 nats off
    assert after([low] * 10 + [low._replace(loss=0.01 + 55 / 16)])[1]
    assert after([low._replace(learnt=4096)] * 10 + [low._replace(loss=0.03, learnt=4096)])[1]


def test_an_update_that_was_taken_back_is_the_step_befores():
    ledger, events = after([USUAL] * 10 + [Signals(2.0, 1.0, 0.5, refused=True)])
    assert [(event.step, event.rung, event.cause) for event in events] == [(10, "skip", "update")]
    assert ledger.losses[-1] == 2.0  # this step itself is healthy
    assert max(ledger.updates) == 1e-3


def test_before_there_is_anything_to_compare_with_only_what_is_not_finite_is_bad():
    _, events = after([Signals(2.0, 1.0), Signals(90.0, 500.0), Signals(math.nan, 1.0)])
    assert [event.cause for event in events] == ["not finite"]


def test_losses_below_zero_are_compared_too():
    assert not after([Signals(-2.0 - 0.01 * (k % 3), 1.0) for k in range(30)])[1]
    assert after([Signals(-2.0 - 0.01 * (k % 3), 1.0) for k in range(30)] + [Signals(1.0, 1.0)])[1]


@settings(max_examples=50)
@given(st.lists(signals, max_size=80))
def test_what_is_bad_never_enters_what_is_compared_with(steps):
    ledger, events = after(steps)
    assert all(value in (9.0,) or value <= 2.1 for value in ledger.losses)
    bad = {event.step for event in events if event.cause != "update"}
    healthy = [one for step, one in enumerate(steps, start=1) if step not in bad]
    assert list(ledger.losses) == [one.loss for one in healthy][-HEALING.window :]
    assert all(math.isfinite(value) for value in ledger.losses + ledger.grad_norms)


@settings(max_examples=50)
@given(st.lists(signals, max_size=80), st.integers(0, 80))
def test_a_ledger_that_was_written_down_decides_as_the_one_that_was_not(steps, cut):
    ledger, early = after(steps[:cut])
    again = Ledger.of(json.loads(json.dumps(ledger.plain())))
    assert again == ledger
    assert early + after(steps[cut:], ledger=again, first=cut + 1)[1] == after(steps)[1]


def test_what_goes_on_climbs_the_ladder():
    bad = Signals(9.0, 1.0)
    _, events = after([USUAL] * 10 + [bad] * 10)
    assert [event.rung for event in events[:7]] == ["skip", "skip", "lower", "lower", "roll back", "stop", "stop"]


def test_where_documents_are_to_blame_steps_are_skipped_and_nothing_else():
    blame = lambda cause: [{"id": "x", "source": "corpus"}]  # noqa: E731
    ledger, events = after([USUAL] * 10 + [Signals(9.0, 1.0)] * 6, HEALING.replace(spoilt=5), blame=blame)
    assert [event.rung for event in events] == ["skip"] * 5 + ["stop"]
    assert ledger.factor(HEALING) == 1.0
    assert events[0].documents[0]["id"] == "x"


def test_after_going_back_the_ladder_is_climbed_again_and_ends():
    ledger, events = after([USUAL] * 10 + [Signals(9.0, 1.0)] * 5)
    back = ledger.back(Ledger(losses=(2.0,) * 10), 4, 44)
    assert back.skipped_rows == 44
    _, events = after([Signals(9.0, 1.0)] * 5, ledger=back, first=5)
    assert [event.rung for event in events] == ["skip", "skip", "lower", "lower", "stop"]


def test_going_back_twice_leaves_the_rows_of_each_step_as_the_weights_saw_them():
    ledger = Ledger(jumps=((10, 40), (30, 80)))
    assert ledger.back(Ledger(), 20, 120).jumps == ((10, 40), (20, 120))
    assert ledger.back(Ledger(), 10, 120).jumps == ((10, 120),)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))
def test_trouble_without_end_comes_to_an_end(skips, lowers, rollbacks):
    healing = HEALING.replace(skips=skips, lowers=lowers, rollbacks=rollbacks)
    ledger, bad = after([USUAL] * 10, healing)[0], 0
    for step in range(11, 200):
        ledger, (event,) = climb(healing, ledger, step, Signals(9.0, 1.0))
        bad += 1
        if event.rung == "stop":
            break
        if event.rung == "roll back":
            ledger = ledger.back(Ledger(losses=(2.0,) * 10), 1, 0)
    assert bad == (skips + lowers + 1) * (rollbacks + 1)


def test_the_rate_is_lowered_and_comes_back():
    ledger, events = after([USUAL] * 10 + [Signals(9.0, 1.0)] * 3)
    assert events[-1].rung == "lower"
    factors = [ledger.factor(HEALING)]
    for step in range(14, 20):
        ledger, _ = climb(HEALING, ledger, step, USUAL)
        factors.append(ledger.factor(HEALING))
    assert factors[0] == pytest.approx(HEALING.lowered)
    assert factors == sorted(factors)
    assert factors[5] == factors[6] == 1.0


def test_where_the_update_was_too_large_the_rate_falls_to_what_brings_it_back():
    _, events = after([USUAL] * 10 + [Signals(2.0, 1.0, 0.03, refused=True)] * 3)
    assert events[-1].rung == "lower"
    assert events[-1].rate == pytest.approx(1 / 30)


def test_updates_at_a_lowered_rate_are_not_compared_with():
    ledger, _ = after([USUAL] * 10 + [Signals(9.0, 1.0)] * 3 + [Signals(2.0, 1.0, 1e-5)] * 3)
    assert 1e-5 not in ledger.updates


def test_when_it_has_been_calm_the_next_trouble_begins_at_the_foot():
    ledger, _ = after([USUAL] * 10 + [Signals(9.0, 1.0)] * 2 + [USUAL] * 20)
    assert ledger.bad == 0
    _, events = after([Signals(9.0, 1.0)], ledger=ledger, first=33)
    assert events[0].rung == "skip"


def test_going_over_the_same_steps_again_is_not_calm_yet():
    ledger, _ = after([USUAL] * 30 + [Signals(9.0, 1.0)] * 5)
    back = ledger.back(ledger, 10, 0)
    assert after([USUAL] * 20, ledger=back, first=11)[0].rollbacks == 1


def test_rows_of_another_kind_are_not_compared_with_those_before():
    ledger, _ = after([USUAL] * 10)
    assert not after([Signals(5.0, 30.0)] * 5, ledger=ledger.anew(), first=11)[1]


def test_steps_without_anything_to_learn_say_nothing():
    ledger, events = after([Signals(0.0, 0.0)] * 20 + [USUAL] * 3)
    assert not events
    assert ledger.losses == (2.0,) * 3


def test_an_event_says_what_and_why_in_a_line():
    _, events = after([USUAL] * 10 + [Signals(9.0, 1.0), Signals(math.nan, 1.0)])
    assert str(events[0]) == "step 11: the loss is 9, above 2.4; its update is not made"
    assert str(events[1]) == "step 12: the loss or the norm of the gradient is not finite; its update is not made"
    assert json.loads(json.dumps(events[1].plain()))["loss"] == "nan"


def test_a_window_that_would_never_be_full_enough_is_refused():
    with pytest.raises(ConfigError, match="window=8"):
        Healing(window=8, least=9)
