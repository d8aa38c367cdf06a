from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.generate import Greedy, Random

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12)


def by_definition(logits: list[float], sampler: Random) -> list[float]:
    """Temperature, then the k best, then the fewest that reach p, written out."""
    p = (torch.tensor(logits, dtype=torch.float64) / sampler.temperature).softmax(0)
    best = sorted(range(len(p)), key=lambda i: -p[i])[: sampler.top_k]
    whole, kept, reached = sum(p[i] for i in best), [], 0.0
    for i in best:
        if reached < sampler.top_p:
            kept.append(i)
            reached += float(p[i] / whole)
    return [float(p[i] / sum(p[j] for j in kept)) if i in kept else 0.0 for i in range(len(p))]


@given(
    st.lists(st.integers(-40, 40), min_size=2, max_size=12, unique=True), st.floats(0.3, 3),
    st.none() | st.integers(1, 14), st.floats(0.05, 0.99),
)
def test_probabilities_are_those_of_the_definition(logits, temperature, top_k, top_p):
    sampler = Random(temperature=temperature, top_k=top_k, top_p=top_p)
    values = [x / 5 for x in logits]
    expected = torch.tensor(by_definition(values, sampler))
    found = sampler.probabilities(torch.tensor([values]))[0]
    if not torch.equal(found > 0, expected > 0):  # rounding may decide whether p is reached; then one token more or less is kept
        assert abs(int((found > 0).sum()) - int((expected > 0).sum())) == 1
        return
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@given(LOGITS)
def test_all_is_kept_by_default(logits):
    torch.testing.assert_close(Random().probabilities(torch.tensor([logits])), torch.tensor([logits]).softmax(-1))


@given(LOGITS, st.integers(0, 100))
def test_keeping_one_is_greedy(logits, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.tensor([logits, logits[::-1]])
    picked = Random(top_k=1).pick(rows, generator)
    assert torch.equal(rows.gather(1, picked[:, None]).squeeze(1), rows.max(-1).values)


def test_greedy_takes_the_first_of_equals():
    assert Greedy().pick(torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]), torch.Generator()).tolist() == [1, 0]


def test_draws_follow_the_probabilities():
    sampler, logits = Random(temperature=0.7, top_k=3), torch.tensor([1.0, 0.5, 0.0, 0.9, -2.0])
    picked = sampler.pick(logits.expand(20_000, 5), torch.Generator().manual_seed(0))
    share = torch.bincount(picked, minlength=5) / 20_000
    torch.testing.assert_close(share, sampler.probabilities(logits[None])[0], atol=0.015, rtol=0)


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_impossible_samplers_are_refused(fields):
    with pytest.raises(ConfigError, match=f"Random.{next(iter(fields))}="):
        Random(**fields)
