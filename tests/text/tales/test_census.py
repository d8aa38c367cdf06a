"""The census counts what is there, and guessing does not answer the questions."""

from collections import Counter
from math import log2
from random import Random

import pytest

from bloomery.text.tales import KINDS, Tales, census
from bloomery.text.tales.draws import Draws


@pytest.fixture(scope="module")
def counted():
    return census(Tales(seed=4), sample=300)


def test_tales_are_too_many_to_memorise(counted):
    assert counted.world_bits > 90
    assert counted.telling_bits > 40
    assert counted.least_bits > 90
    assert counted.distinct == counted.sample == 300


def test_names_and_pairs_are_counted_per_split(counted):
    assert counted.names == {"train": 1536, "held_out": 384}
    assert counted.pairs == {"train": 800, "held_out": 200}


def test_the_commonest_answers_do_not_leak(counted):
    assert set(counted.kinds) == set(KINDS)
    assert counted.prior["all"] < 0.08
    assert max(counted.prior.values()) < 0.25


def test_a_bag_of_words_that_knows_what_is_asked_fails(counted):
    assert 0.3 < counted.mention["all"] < 0.6


def test_the_report_names_every_kind_and_the_entropy(counted):
    report = str(counted)
    assert all(kind in report for kind in KINDS)
    assert f"{counted.world_bits + counted.telling_bits:.1f} bits per tale" in report


def test_draws_count_their_own_entropy():
    draws = Draws(Random(0))
    draws.pick("abcd")
    draws.take([1, 2])
    draws.below(8)
    assert draws.bits == pytest.approx(2 + 1 + 3)
    before = draws.bits
    happened = draws.chance(0.25)
    assert draws.bits - before == pytest.approx(-log2(0.25 if happened else 0.75))


def test_weighted_draws_follow_their_weights_and_entropy():
    draws = Draws(Random(0))
    counts = Counter(draws.weighted("ab", (3, 1)) for _ in range(4000))
    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert draws.bits / 4000 == pytest.approx(0.811, abs=0.03)
