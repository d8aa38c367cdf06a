"""fp16: the loss is scaled so that gradients fit, no step is lost when they do not, and the scale is part of the run."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.train.scaling import FIRST, GROW_AFTER, LEAST, LossScale
from tests.train.toys import fresh, reports, same, weights


def test_fp16_learns_as_fp32_does():
    exact, half = reports(fresh(), steps=25), reports(fresh(), steps=25, precision="fp16")
    assert [r.loss for r in half] != [r.loss for r in exact]
    assert half[-1].loss == pytest.approx(exact[-1].loss, rel=0.01)


def test_the_scale_changes_no_gradient_and_no_loss():
    """A power of two, put on and taken off."""
    scaled, plain = fresh(), fresh()
    scaled.scale = LossScale(2.0**10)
    a, b = reports(scaled, steps=5), reports(plain, steps=5)
    assert [r.loss for r in a] == [r.loss for r in b]
    assert [r.grad_norm for r in a] == [r.grad_norm for r in b]
    assert same(weights(scaled), weights(plain))


def test_a_step_that_overflows_is_done_again_under_half_the_scale():
    high, low = fresh(), fresh()
    high.scale, low.scale = LossScale(2.0**40), LossScale(2.0**8)
    found = reports(high, steps=6, precision="fp16")
    assert [r.step for r in found] == [1, 2, 3, 4, 5, 6]
    assert high.scale.factor < 2.0**40
    for a, b in zip(found, reports(low, steps=6, precision="fp16"), strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3)
    assert all(torch.isfinite(w).all() for w in weights(high).values())


def test_the_scale_goes_with_the_ledger():
    state = fresh()
    state.scale = LossScale(2.0**12, 7)
    other = fresh()
    other.ledger = state.ledger
    assert other.scale == LossScale(2.0**12, 7)


@given(st.lists(st.booleans(), max_size=60))
def test_the_scale_stays_a_power_of_two_at_least_one(outcomes):
    scale = LossScale()
    for finite in outcomes:
        before, scale = scale, scale.after(finite)
        assert scale.factor >= LEAST
        assert scale.factor.hex().startswith("0x1.0000000000000p")
        assert finite or scale.factor == max(LEAST, before.factor / 2)


def test_it_doubles_after_a_long_time_without_overflow():
    scale = LossScale()
    for _ in range(GROW_AFTER - 1):
        scale = scale.after(True)
    assert scale.factor == FIRST
    assert scale.after(True) == LossScale(2 * FIRST)
