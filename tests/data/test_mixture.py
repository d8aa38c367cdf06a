"""Mixtures: the promised shares at every prefix, each source in its own order, repetitions told."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.corpora import make_shards

from bloomery.core.errors import ConfigError
from bloomery.data.mixture import Mixture, interleave, whole_parts
from bloomery.data.packing import Cut, Fit
from bloomery.data.source import Packed


@pytest.fixture
def two(tmp_path):
    web = Packed(make_shards(tmp_path / "web", [5, 9, 3, 8]), Cut(), time=4, seed=1, name="web")
    chats = Packed(make_shards(tmp_path / "chats", [2, 3, 2, 9, 1], masked=True), Fit(), time=4, seed=2, name="chats")
    return {"web": web, "chats": chats}


@settings(max_examples=80, deadline=None)
@given(parts=st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_shares_stay_within_one_row_at_every_prefix(parts):
    order, given_rows = interleave(parts), [0] * len(parts)
    assert len(order) == sum(parts)
    for n, k in enumerate(order.tolist(), start=1):
        given_rows[k] += 1
        assert all(abs(count - Fraction(n * part, sum(parts))) < 1 for count, part in zip(given_rows, parts, strict=True))
    assert given_rows == parts  # so that it may repeat


def test_proportions_become_the_smallest_whole_numbers():
    assert whole_parts([0.7, 0.3]) == [7, 3]
    assert whole_parts([1 / 3, 2 / 3]) == [1, 2]
    assert whole_parts([95, 5]) == [19, 1]


@pytest.mark.parametrize("proportions", [[0.5, 0.0], [0.5, -1], [float("nan"), 1], [1, 1e-5 + 1e-6]])
def test_impossible_proportions_are_refused(proportions):
    with pytest.raises(ConfigError, match=r"Mixture\.proportions"):
        whole_parts(proportions)


def test_rows_are_those_of_the_sources_in_their_own_order(two):
    mixture = Mixture(two, {"web": 0.7, "chats": 0.3})
    batch, taken = mixture.batch(0, 60), {"web": 0, "chats": 0}
    for row in range(60):
        name = mixture.documents(row, 1)[0].source
        own = two[name].batch(taken[name], 1)
        for found, expected in (
            (batch.tokens, own.tokens), (batch.targets, own.targets), (batch.loss_weight, own.loss_weight),
            (batch.layout.segments, own.layout.segments), (batch.layout.positions, own.layout.positions),
        ):
            assert found[row].tolist() == expected[0].tolist()
        taken[name] += 1
    assert taken == {"web": 42, "chats": 18}
    assert mixture.count(60) == [42, 18]


def test_supply_tells_repetitions_and_cuts(two):
    web, chats = Mixture(two, {"web": 0.7, "chats": 0.3}).supply(1000)
    assert (web.source, web.rows, web.tokens, web.epochs) == ("web", 700, 2800, 2800 / 25)
    assert (chats.rows, chats.documents, chats.unlearnt, chats.cut_documents, chats.cut_tokens) == (300, 4, 1, 1, 5)
    per_epoch = two["chats"].arrangement.rows_per_epoch()
    assert chats.epochs == pytest.approx(300 / per_epoch, rel=0.1)
    assert chats.tokens == round(chats.epochs * 11)
    assert "1 documents are longer than a row: 5 tokens are cut per epoch" in str(chats)
    assert "1 documents are left out, of which nothing in a row is to be learnt" in str(chats)
    assert "each about 112.0 times" in str(web)


def test_sources_that_do_not_fit_together_are_refused(two, tmp_path):
    longer = Packed(two["web"].shards, Cut(), time=8, seed=1)
    with pytest.raises(ConfigError, match="one row length"):
        Mixture({"web": two["web"], "longer": longer}, {"web": 1, "longer": 1})
    other = Packed(make_shards(tmp_path / "small", [3], vocab_size=99), Cut(), time=4, seed=1)
    with pytest.raises(ConfigError, match="one tokenizer"):
        Mixture({"web": two["web"], "other": other}, {"web": 1, "other": 1})
    with pytest.raises(ConfigError, match="must name the sources"):
        Mixture(two, {"web": 1, "chat": 1})
