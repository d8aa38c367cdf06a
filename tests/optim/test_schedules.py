"""Schedules are their closed forms, and those of torch and of papers."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.optim import WSD, Constant, InverseSqrt, Linear, Noam, Sweep, WarmRestarts, WarmupCosine


def test_cosine_is_its_closed_form():
    schedule = WarmupCosine(warmup=10, final=0.1)
    assert [schedule.factor(k, 110) for k in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    for step in (10, 30, 109):
        assert schedule.factor(step, 110) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * (step - 10) / 99)))
    assert schedule.factor(109, 110) == pytest.approx(0.1)


def test_wsd_is_its_closed_form():
    schedule = WSD(warmup=0.1, decay=0.2, final=0.0)
    assert [schedule.factor(k, 100) for k in (0, 9, 10, 79, 80, 89, 99)] == pytest.approx([0.1, 1, 1, 1, 0.95, 0.5, 0.0])
    root = WSD(warmup=0, decay=20, form="sqrt")
    assert root.factor(84, 100) == pytest.approx(1 - math.sqrt(5 / 20))


def test_constant_warms_up_and_stays():
    assert [Constant(warmup=2).factor(k, 5) for k in range(5)] == [0.5, 1, 1, 1, 1]


def test_a_warmup_fraction_above_one_is_refused():
    with pytest.raises(ConfigError, match="write 10 for steps"):
        WarmupCosine(warmup=10.0)


@given(final=st.floats(0, 1), warmup=st.integers(0, 20), after=st.integers(2, 200), at=st.floats(0, 1))
def test_linear_is_its_closed_form(final, warmup, after, at):
    schedule, steps = Linear(warmup=warmup, final=final), warmup + after
    step = warmup + round(at * (after - 1))
    assert schedule.factor(step, steps) == pytest.approx(1 - (1 - final) * (step - warmup) / (after - 1))
    assert schedule.factor(steps - 1, steps) == pytest.approx(final)


@given(d_model=st.integers(1, 4096), warmup=st.integers(1, 5000), n=st.integers(1, 100_000))
def test_noam_times_its_peak_is_the_papers_rate(d_model, warmup, n):
    schedule, steps = Noam(warmup=warmup), 100_000
    rate = schedule.peak(d_model, steps) * schedule.factor(n - 1, steps)
    assert rate == pytest.approx(d_model**-0.5 * min(n**-0.5, n * warmup**-1.5), rel=1e-12)


@given(warmup=st.integers(1, 500), n=st.integers(1, 10_000))
def test_inverse_sqrt_is_noams_where_its_time_scale_is_the_warmup(warmup, n):
    assert InverseSqrt(warmup=warmup).factor(n - 1, 10_000) == pytest.approx(Noam(warmup=warmup).factor(n - 1, 10_000))


@given(scale=st.integers(1, 1000), warmup=st.integers(0, 50), after=st.integers(1, 5000))
def test_inverse_sqrt_halves_its_square_after_its_time_scale(scale, warmup, after):
    schedule = InverseSqrt(warmup=warmup, timescale=scale)
    assert schedule.factor(warmup + scale - 1, 10_000) == pytest.approx(math.sqrt(0.5))
    assert schedule.factor(warmup + after - 1, 10_000) == pytest.approx((1 + after / scale) ** -0.5)


@pytest.mark.parametrize(("period", "growth", "final"), [(10, 1, 0.0), (7, 2, 0.1), (5, 3, 0.0)])
def test_warm_restarts_are_torchs(period, growth, final):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period, growth, eta_min=final)
    ours = WarmRestarts(period=period, growth=growth, final=final)
    for step in range(100):
        assert ours.factor(step, 100) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_restarts_come_after_the_warmup_and_are_at_full_rate():
    schedule = WarmRestarts(warmup=4, period=0.1, growth=1.5)
    full = [step for step in range(3, 100) if schedule.factor(step, 100) == 1.0]
    assert full == [3, 4, 14, 29, 51, 85]  # 10, 15, 22 (22.5), 34 (33.75) steps


@given(low=st.floats(1e-8, 1), steps=st.integers(2, 500))
def test_a_sweep_rises_by_one_ratio_from_low_to_one(low, steps):
    factors = [Sweep(low=low).factor(step, steps) for step in range(steps)]
    assert factors[0] == pytest.approx(low)
    assert factors[-1] == 1.0
    assert [b / a for a, b in itertools.pairwise(factors)] == pytest.approx([low ** (-1 / (steps - 1))] * (steps - 1))


@pytest.mark.parametrize("schedule", [lambda: WSD(decay=3.0), lambda: WarmRestarts(period=3.0), lambda: InverseSqrt(timescale=3.0)])
def test_fractions_above_one_are_refused(schedule):
    with pytest.raises(ConfigError, match="write 3 for steps"):
        schedule()
