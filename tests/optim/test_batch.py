"""Ramps of the batch are closed forms of the step; rates follow the batch by their rule."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.core.identity import content_key
from bloomery.optim import Batches, BatchRamp, BatchRule, Doublings, NoRamp, Rising
from bloomery.optim.batch import Level

levels = st.lists(st.builds(Level, st.integers(1, 9), st.integers(1, 7)), max_size=5)


@given(levels=levels, rows=st.integers(1, 20), steps=st.integers(0, 60))
def test_rows_before_a_step_are_the_sum_of_those_of_each(levels, rows, steps):
    batches = Batches(rows, tuple(levels))
    assert batches.rows_before(steps) == sum(batches.rows_of(step) for step in range(steps))


@given(levels=levels, rows=st.integers(1, 20), total=st.integers(1, 500))
def test_steps_for_rows_are_the_fewest_that_read_them(levels, rows, total):
    batches = Batches(rows, tuple(levels))
    steps = batches.steps_for(total)
    assert batches.rows_before(steps) >= total > batches.rows_before(steps - 1)


def test_doublings_end_with_the_full_batch():
    batches = Doublings(at=(2, 5)).batches(rows=8, time=16)
    assert [batches.rows_of(step) for step in range(8)] == [2, 2, 4, 4, 4, 8, 8, 8]


@given(tokens=st.integers(1, 100_000), jumps=st.integers(2, 9), times=st.integers(1, 4), time=st.integers(1, 64))
def test_a_rising_batch_is_proportional_to_the_tokens_read(tokens, jumps, times, time):
    rows = jumps * times
    ramp = Rising(tokens=tokens, jumps=jumps)
    found = ramp.levels(rows, time)
    assert [level.rows for level in found] == [times * i for i in range(1, jumps)]
    for level in found:  # as many tokens at each size, but for whole steps
        assert 0 <= level.rows * time * level.steps - tokens / (jumps - 1) < level.rows * time


@pytest.mark.parametrize("kind", BatchRamp.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_ramp_rises_to_the_full_batch_and_has_an_identity(kind):
    examples = {NoRamp: {}, Doublings: {"at": (3, 4)}, Rising: {"tokens": 1000, "jumps": 4}}
    ramp = kind(**examples[kind])
    sizes = [ramp.batches(8, 16).rows_of(step) for step in range(100)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 8
    assert ramp == kind(**examples[kind])
    assert content_key(ramp) not in {content_key(other(**examples[other])) for other in examples if other is not kind}


@pytest.mark.parametrize(
    ("ramp", "words"),
    [(lambda: Doublings(at=(5, 5)), "ascending"), (lambda: Doublings(at=()), "ascending"),
     (lambda: Doublings(at=(1, 2)).levels(6, 32), "6 is no multiple of 4; batch_tokens of 128 or 256 would do"),
     (lambda: Rising(tokens=9, jumps=4).levels(6, 32), "does not divide a batch of 6 rows; batch_tokens of 128 or 256 would do")],
)  # fmt: skip
def test_batches_that_cannot_be_come_to_are_refused(ramp, words):
    with pytest.raises(ConfigError, match=words):
        ramp()


def test_ranks_that_cannot_share_a_step_are_told_the_arithmetic():
    Doublings(at=(2,)).batches(8, 16).check_readers(4)
    with pytest.raises(ConfigError, match=r"4 ranks .* a step of 2 rows: 2 = 0·4 \+ 2; give it 4 rows"):
        Doublings(at=(2, 3)).batches(8, 16).check_readers(4)


def test_rates_follow_the_batch_by_their_rule():
    assert BatchRule(base_tokens=100, power="linear").factor(400) == 4.0
    assert BatchRule(base_tokens=100).factor(400) == 2.0
    assert BatchRule(base_tokens=400).factor(200) == pytest.approx(math.sqrt(0.5))
