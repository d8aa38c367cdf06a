"""A sweep sees the loss at rising rates, and suggests one at which a run learns."""

import numpy as np
import pytest

from bloomery.optim import AdamW, BatchRule, Doublings, Muon
from bloomery.train import Manner
from bloomery.train.lr_find import RateSweep, sweep_rates
from tests.train.toys import ROWS, TIME, Uneven, course, fresh, reports


def sweep(low=1e-5, high=10.0, steps=60, source=None, optimizer=None, **changes) -> RateSweep:
    state = fresh((optimizer or AdamW()).at(high))
    return sweep_rates(state, source or Uneven(), course(steps=steps, **changes), Manner(micro_batch=ROWS), low, high)


@pytest.fixture(scope="module")
def found() -> RateSweep:
    return sweep()


def test_rates_rise_by_one_ratio(found):
    ratios = [b / a for a, b in zip(found.rates, found.rates[1:], strict=False)]
    assert found.rates[0] == pytest.approx(1e-5)
    assert ratios == pytest.approx([1e6 ** (1 / 59)] * len(ratios))
    assert sweep(steps=5, high=1e-4).rates[-1] == pytest.approx(1e-4)


def test_it_ends_where_the_loss_goes_up(found):
    assert found.diverged
    assert len(found.rates) < 60
    assert found.losses[-1] > 2 * min(found.losses)
    assert not sweep(steps=5, high=1e-4).diverged


def test_the_suggestions_learn_and_lie_below_the_rates_that_do_not(found):
    assert found.steepest is not None
    assert found.lowest is not None
    assert found.tenth == found.lowest / 10
    assert found.steepest < found.lowest < found.rates[-1]
    for rate in (found.steepest, found.tenth):
        losses = [r.loss for r in reports(fresh(AdamW(learning_rate=rate)), steps=40)]
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_recipes_own_batch_rule_holds_and_its_batch_is_full():
    ruled = sweep(steps=8, high=1e-3, ramp=Doublings(at=(3,)), batch_rule=BatchRule(base_tokens=4 * ROWS * TIME, power="linear"))
    quarter = sweep(steps=8, low=1e-5 / 4, high=1e-3 / 4)
    assert ruled.losses == pytest.approx(quarter.losses, rel=1e-4)
    assert ruled.rates == pytest.approx([4 * rate for rate in quarter.rates])


def test_rates_of_other_parameters_keep_their_ratio():
    optimizer = Muon(learning_rate=0.1, others=AdamW(learning_rate=0.2)).at(1.0)
    assert (optimizer.learning_rate, optimizer.others.learning_rate) == (1.0, 2.0)


def test_a_loss_that_is_no_number_ends_it():
    class Poisoned(Uneven):
        def rows(self, first_row, rows):
            out = super().rows(first_row, rows)
            if first_row >= 4 * ROWS:
                out.loss_weight[0, 0] = np.inf
            return out

    found = sweep(high=1e-3, source=Poisoned())
    assert found.diverged
    assert len(found.losses) == 4


def test_a_loss_that_never_falls_suggests_nothing():
    rising = RateSweep((0.1, 0.2, 0.4), (1.0, 2.0, 4.0), True)
    assert rising.lowest is rising.steepest is rising.tenth is None
    assert RateSweep((), (), True).steepest is None


def test_smoothing_moves_no_straight_line_but_its_ends():
    line = RateSweep(tuple(float(10**i) for i in range(40)), tuple(float(i) for i in range(40)), False)
    assert line.smoothed[8:32] == pytest.approx(list(line.losses[8:32]), abs=1e-3)
