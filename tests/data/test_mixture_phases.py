"""Mixings: the promised proportions at every prefix, never more than may be repeated, the same whatever the batch and wherever it resumes."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.corpora import make_shards

from bloomery.core.errors import ConfigError
from bloomery.data import Corpus, Curriculum, Cut, Fit, Given, Mixture, Packed, Proportions, Ratio, Stretch, Temperature, UniMax
from bloomery.data.mixing import GRAIN, apportioned, filled, most_given
from bloomery.data.source import Cursor

SIZES = st.lists(st.integers(1, 10**9), min_size=1, max_size=6)


def corpora(tokens, **beside):
    """Corpora a, b, c … of these sizes."""
    columns = [dict(zip(beside, values, strict=True)) for values in zip(*beside.values(), strict=True)] or [{}] * len(tokens)
    return [Corpus(name=name, tokens=n, **more) for name, n, more in zip("abcdefgh", tokens, columns, strict=False)]


def shares_of(proportions):
    """The proportions as fractions of 1."""
    total = sum(Fraction(p) for p in proportions.values())
    return {name: Fraction(p) / total for name, p in proportions.items()}


class Counting(Packed):
    """Stands in for the sources of a mixture of which only the order is looked at."""

    time, vocab_size = 1, 1

    def __init__(self):
        pass


def order_of(proportions, changes, rows):
    """Which source each of the first rows comes from."""
    names = dict.fromkeys(name for mixed in [proportions, *(mixed for _, mixed in changes)] for name in mixed)
    mixture = Mixture({name: Counting() for name in names}, proportions, changes)
    order = [list(names)[int(mixture._phase(row).chosen(row, 1)[0])] for row in range(rows)]
    assert mixture.count(rows) == [order.count(name) for name in names]
    return order


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, temperature=st.floats(1, 20), rows=st.integers(1, 5000))
def test_temperature_raises_sizes_to_its_inverse(sizes, temperature, rows):
    given = corpora(sizes)
    weights = [n ** (1 / temperature) for n in sizes]
    if min(weights) / sum(weights) < 1e-4:
        return  # may be too little for any period; see below
    [phase] = Temperature(temperature=temperature).phases(given, rows)
    for corpus, weight in zip(given, weights, strict=True):
        assert float(shares_of(phase.proportions)[corpus.name]) == pytest.approx(weight / sum(weights), abs=1 / GRAIN)


def test_temperature_goes_from_sizes_to_evenness():
    sizes = corpora([100, 400])
    assert Temperature(temperature=1).phases(sizes, 10)[0].proportions == {"a": 100, "b": 400}
    assert Temperature(temperature=2).phases(sizes, 10)[0].proportions == {"a": 10, "b": 20}
    even = shares_of(Temperature(temperature=1000).phases(sizes, 10)[0].proportions)
    assert float(even["a"]) == pytest.approx(0.5, abs=1e-3)


def naive_unimax(sizes, budget, epochs):
    """Algorithm 1 of the paper, with its names."""
    left, given = budget, {}
    for i, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
        given[name] = min(left / (len(sizes) - i), sizes[name] * epochs)
        left -= given[name]
    return given


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=6), epochs=st.integers(1, 5), data=st.data())
def test_unimax_is_the_papers_algorithm_to_within_a_row(sizes, epochs, data):
    budget = data.draw(st.integers(1, sum(sizes) * epochs))
    given = corpora(sizes, most_rows=[n * epochs for n in sizes])
    parts = apportioned(UniMax(max_epochs=epochs).weights(given), given, budget)
    expected = naive_unimax(dict(zip("abcdefgh", sizes, strict=False)), budget, epochs)
    for name, share in shares_of(parts).items():
        assert float(share * budget) == pytest.approx(expected[name], abs=1.01 + budget / GRAIN)


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), data=st.data(), rows=st.integers(1, 1000))
def test_no_corpus_gives_more_than_it_may_at_any_row(weights, data, rows):
    limits = [data.draw(st.one_of(st.none(), st.integers(0, 2 * rows))) for _ in weights]
    given = corpora([1] * len(weights), most_rows=limits)
    if None not in limits and sum(limits) < rows:
        with pytest.raises(ConfigError, match="within their max_epochs"):
            apportioned(weights, given, rows)
        return
    order = order_of(apportioned(weights, given, rows), [], rows)
    assert all(limit is None or order.count(corpus.name) <= limit for corpus, limit in zip(given, limits, strict=True))


@settings(max_examples=60, deadline=None)
@given(weights=st.lists(st.floats(0.1, 100), min_size=2, max_size=5), rows=st.integers(100_001, 10**8), at=st.integers(0, 4))
def test_limits_hold_over_long_runs_too(weights, rows, at):
    limits = [rows // 7 if i == at % len(weights) else None for i in range(len(weights))]
    given = corpora([1] * len(weights), most_rows=limits)
    parts = apportioned(weights, given, rows)
    for corpus in given:
        assert corpus.most_rows is None or most_given(parts, corpus.name, rows) <= corpus.most_rows


@settings(max_examples=60, deadline=None)
@given(weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=6), data=st.data(), rows=st.integers(1, 99))
def test_what_one_cannot_give_the_others_do_in_proportion(weights, data, rows):
    limits = data.draw(st.lists(st.integers(0, 50).map(float), min_size=6, max_size=6))
    limits = limits[: len(weights)]
    shares = filled(weights, limits, float(rows))
    assert sum(shares) == pytest.approx(min(rows, sum(limits)))
    assert all(share <= limit for share, limit in zip(shares, limits, strict=True))
    levels = [share / weight for share, weight, limit in zip(shares, weights, limits, strict=True) if share < limit - 1e-9]
    assert not levels or max(levels) == pytest.approx(min(levels))  # those below their limit have as much for their weight


@settings(max_examples=40, deadline=None)
@given(stretches=st.lists(st.lists(st.integers(0, 7), min_size=3, max_size=3).filter(any), min_size=1, max_size=4), rows=st.integers(1, 400))
def test_each_stretch_keeps_its_proportions_at_every_prefix(stretches, rows):
    plan = [Stretch(share=1 / len(stretches), mixing=Proportions(of=dict(zip("abc", parts, strict=True)))) for parts in stretches]
    phases = Curriculum(stretches=tuple(plan)).phases(corpora([1, 1, 1]), rows)
    order = order_of(phases[0].proportions, phases[1:], rows)
    for phase, end in zip(phases, [*(p.first_row for p in phases[1:]), rows], strict=True):
        shares, seen = shares_of(phase.proportions), dict.fromkeys("abc", 0)
        for n, name in enumerate(order[phase.first_row : end], start=1):
            seen[name] += 1
            assert all(abs(seen[c] - n * shares.get(c, 0)) < 1 for c in "abc")


def test_a_curriculum_counts_repetitions_over_all_its_stretches():
    given = corpora([10, 10], most_rows=[30, None])
    halves = tuple(Stretch(share=0.5, mixing=Proportions(of={"a": 1, "b": 1})) for _ in range(2))
    phases = Curriculum(stretches=halves).phases(given, 100)
    order = order_of(phases[0].proportions, phases[1:], 100)
    assert (order[:50].count("a"), order[50:].count("a")) == (25, 5)


def test_groups_stand_in_their_ratio_whatever_their_sizes():
    given = corpora([10, 1000, 90], group=["domain", "general", "domain"])
    shares = shares_of(Ratio(of={"domain": 1, "general": 4}, within=Temperature(temperature=1)).phases(given, 10)[0].proportions)
    assert [float(shares[name]) for name in "abc"] == pytest.approx([0.02, 0.8, 0.18])
    with pytest.raises(ConfigError, match=r"does not name the groups \['domain', 'general'\]"):
        Ratio(of={"domain": 1}).weights(given)


@pytest.mark.parametrize(("make", "why"), [
    (lambda: Curriculum(stretches=(Stretch(share=0.5, mixing=Given()),)), "sum to 0.5"),
    (lambda: Proportions(of={"a": 0}), "gives nothing"),
    (lambda: Proportions(of={"z": 1}).weights(corpora([1])), "names 'z', which is no source; they are a"),
    (lambda: Temperature(temperature=0.5), "greater than or equal to 1"),
    (lambda: apportioned([1, 1e-7], corpora([1, 1]), 10), "'b' would give less than one row in 100000"),
    (lambda: Mixture({"a": Counting(), "b": Counting()}, {"a": 1}, [(4, {"a": 2})]), "must name the sources"),
    (lambda: Mixture({"a": Counting(), "b": Counting()}, {"a": 1}, [(0, {"b": 2})]), "do not ascend"),
])  # fmt: skip
def test_what_cannot_be_mixed_is_refused(make, why):
    with pytest.raises(ConfigError, match=why):
        make()


@pytest.fixture
def changing(tmp_path):
    a = Packed(make_shards(tmp_path / "a", [5, 9, 3, 8]), Cut(), time=4, seed=1, name="a")
    b = Packed(make_shards(tmp_path / "b", [2, 3, 2, 9, 1]), Fit(), time=4, seed=2, name="b")
    return Mixture({"a": a, "b": b}, {"a": 3, "b": 1}, [(10, {"b": 1}), (17, {"a": 1, "b": 2})])


def test_sources_go_on_where_they_stood(changing):
    taken = {"a": 0, "b": 0}
    for row in range(40):
        name = changing.documents(row, 1)[0].source
        assert changing.batch(row, 1).tokens.tolist() == changing.sources[name].batch(taken[name], 1).tokens.tolist()
        taken[name] += 1
        assert changing.count(row + 1) == list(taken.values())
    assert {span.source for span in changing.documents(10, 7)} == {"b"}


@pytest.mark.parametrize("rows", [1, 3, 7, 40])
def test_neither_batch_nor_resumption_changes_the_order(changing, rows):
    whole = changing.batch(0, 40)
    parts = [changing.batch(first, min(rows, 40 - first)) for first in range(0, 40, rows)]
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
    batch, _ = next(changing.resume(Cursor(rows=9, tokens=36), rows))
    assert torch.equal(batch.tokens, changing.batch(9, rows).tokens)


def test_a_mixture_can_be_built_again_from_its_plain_data(changing):
    (_, first), *later = changing.plain()
    again = Mixture(changing.sources, first, later)
    assert torch.equal(again.batch(0, 50).tokens, changing.batch(0, 50).tokens)


@pytest.mark.parametrize("packing", [Cut(), Fit(window=3)])
@pytest.mark.parametrize("epochs", [0.4, 1.0, 2.5])
def test_rows_within_some_epochs_are_the_most_that_fit(tmp_path, packing, epochs):
    source = Packed(make_shards(tmp_path, [5, 9, 3, 8, 2, 2, 7]), packing, time=9, seed=1)
    rows = source.rows_within(epochs)
    assert source.arrangement.epochs(rows) <= epochs < source.arrangement.epochs(rows + 1)
    if isinstance(packing, Cut):
        assert rows == math.floor(epochs * 36 / 9)
