"""Planned memory against that of real steps, and how layouts divide it."""

import pytest
from bench.plan_memory import CASES, measured, planned


@pytest.mark.parametrize("name", ["llama, Muon, mostly weights", "gemma2, windows", "mixtral", "t5"])
def test_memory_is_planned_as_it_is_measured(name):
    assert planned(CASES[name]) == pytest.approx(measured(CASES[name]), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_memory_of_every_case_is_planned_as_it_is_measured(name):
    assert planned(CASES[name]) == pytest.approx(measured(CASES[name]), rel=0.02)
