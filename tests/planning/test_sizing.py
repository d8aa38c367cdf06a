"""The law of sizes: its optimum is one, and its advice follows from its figures."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.models.presets import preset
from bloomery.planning.sizing import Growing, advice, best_params, best_split, best_tokens, loss


@given(st.floats(1e19, 1e26))
def test_the_best_split_spends_all_operations_and_no_other_split_is_better(flops):
    params, tokens = best_split(flops)
    assert 6 * params * tokens == pytest.approx(flops)
    assert all(loss(params * k, tokens / k) > loss(params, tokens) for k in (0.9, 1.1))


@given(st.floats(1e7, 1e12))
def test_size_and_data_that_are_best_for_each_other_are_on_the_best_split(params):
    tokens = best_tokens(params)
    assert best_params(tokens) == pytest.approx(params)
    assert best_split(6 * params * tokens) == pytest.approx((params, tokens))


def test_the_budget_of_chinchilla_comes_near_to_chinchilla():
    params, tokens = best_split(5.76e23)  # Hoffmann et al. (2022), table 3: 70 B parameters, 1.4 T tokens
    assert params == pytest.approx(70e9, rel=0.1)
    assert tokens == pytest.approx(1.4e12, rel=0.1)
    assert 15 < tokens / params < 25


def test_growing_pays_from_where_both_ways_come_to_the_same():
    plan = Growing(params=1e9, learnt=0, more=1e8, grown=2e9)
    since = plan.pays_from
    assert 0 < since < float("inf")
    there, later = (replace(plan, learnt=learnt) for learnt in (since, 10 * since))
    assert there.growing == pytest.approx(there.staying)
    assert later.growing < later.staying


def test_ten_billion_on_a_trillion_tokens_that_are_to_learn_200_billion_more():
    said = "\n".join(advice(preset("10b").n_params, 1e12, 2e11, preset("15b").n_params))
    expected = ("120 tokens per parameter", "the model is too small for the data", "19.9B bits", "bring 3.99B bits",
                "12B parameters would have room", "grow before them", "at 15B parameters")  # fmt: skip
    assert all(words in said for words in expected)


def test_a_large_model_on_little_data_is_told_so_and_balance_is_balance():
    assert "too little data for the model" in advice(10e9, 0, 50e9)[1]
    assert "in balance" in advice(1e9, 0, best_tokens(1e9))[1]


def test_nothing_is_foretold_of_toys():
    (line,) = advice(1e6, 0, 1e7)
    assert "begins at" in line
    assert "loss" not in line
