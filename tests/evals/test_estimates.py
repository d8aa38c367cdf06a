"""Figures and their errors: beside the formulas of textbooks, and beside what many samples do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.evals.estimates import Measure, Spread, draws, wilson
from bloomery.evals.text_likelihood import exp_ratio

VALUES = st.lists(st.floats(-5, 5), min_size=2, max_size=30)


@given(VALUES)
def test_the_error_of_a_mean_is_the_deviation_over_the_root_of_n(values):
    found = Measure.mean(values, unit="").estimate()
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)
    assert found.error == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-9)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * found.error, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=30))
def test_the_error_of_a_difference_is_that_of_the_differences_of_pairs(pairs):
    one, other = (np.array(values) for values in zip(*pairs, strict=True))
    found = Measure.mean(one, unit="").less(Measure.mean(other, unit=""))
    assert found.value == pytest.approx((one - other).mean(), abs=1e-9)
    assert found.error == pytest.approx(np.std(one - other, ddof=1) / math.sqrt(len(one)), abs=1e-9)


def test_what_is_hard_for_both_does_not_count_in_a_difference():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 200)
    one, other = hard + rng.normal(1, 0.1, 200), hard + rng.normal(0, 0.1, 200)
    less = Measure.mean(one, unit="").less(Measure.mean(other, unit=""))
    assert less.sure
    assert less.error < 0.02 < 0.5 < Measure.mean(one, unit="").estimate().error
    assert not Measure.mean(one, unit="").less(Measure.mean(one, unit="")).sure


def test_rows_that_hang_together_count_as_one():
    values = np.array([1.0, 1, 0, 0, 1, 0, 0, 1])
    groups = list("aabbcccd")
    sums = {g: sum(v - values.mean() for v, h in zip(values, groups, strict=True) if h == g) for g in "abcd"}
    found = Measure.mean(values, groups).estimate()
    assert found.error == pytest.approx(math.sqrt(4 / 3 * sum(s**2 for s in sums.values())) / 8)
    copied = Measure.mean(np.repeat(values, 5), np.repeat(np.arange(8), 5).astype(str).tolist())
    assert copied.estimate().error == pytest.approx(Measure.mean(values).estimate().error)  # copies of a row tell nothing new


def test_drawn_errors_come_near_to_those_by_formula():
    rng = np.random.default_rng(1)
    parts = np.stack([rng.gamma(2, 10, 400), rng.integers(5, 20, 400).astype(float)], axis=1)
    by_formula = Measure(parts, unit="").estimate()
    drawn = Measure(parts, exp_ratio, unit="").estimate()
    assert drawn.value == pytest.approx(math.exp(by_formula.value))
    assert drawn.error == pytest.approx(drawn.value * by_formula.error, rel=0.1)  # the derivative of exp
    assert drawn.low < drawn.value < drawn.high


def test_differences_of_drawn_figures_are_those_of_the_same_items():
    rng = np.random.default_rng(2)
    hard, words = rng.gamma(2, 10, 300), np.full(300, 10.0)
    one, other = (Measure(np.stack([hard + rng.normal(d, 0.1, 300), words], axis=1), exp_ratio, unit="") for d in (0.5, 0.0))
    assert one.less(other).sure
    assert one.less(other).error < one.estimate().error / 10
    assert one.less(one) == one.less(one)  # the same draws each time
    assert one.less(one).error == 0


def test_sums_are_over_as_many_items_as_there_are():
    assert (draws(np.ones((7, 1)), 50) == 7).all()


def test_the_interval_of_a_share_is_wilsons():
    assert wilson(0.5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-5)  # Wilson (1927), as Newcombe (1998) has it
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe (1998), table I
    nothing = Measure.mean([0.0] * 20).estimate()
    assert (nothing.error, nothing.low) == (0, 0)
    assert nothing.high > 0.1


def test_a_single_item_has_no_error():
    found = Measure.mean([0.3], unit="").estimate()
    assert math.isnan(found.error)
    assert found.plain()["error"] is None
    assert str(found) == "0.3000"
    assert str(Measure.mean([7e12, 9e12], unit="").estimate()) == "8e+12 ± 1e+12"
    assert Measure.mean([0.0, 1.0]).estimate().interval() == "9.5 to 90.5%"


def test_the_spread_of_wordings():
    assert Spread.of([0.1, 0.3, 0.2]) == Spread(pytest.approx(0.2), 0.1, 0.3, pytest.approx(0.1))
