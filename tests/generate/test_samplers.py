from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.generate.chance import chance

from bloomery.core.errors import ConfigError
from bloomery.generate import Greedy, Random, samplers

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


SAMPLERS = {
    "plain": Random(), "temperature": Random(temperature=0.6), "top_k": Random(top_k=4), "top_p": Random(top_p=0.7), "min_p": Random(min_p=0.1),
    "typical_p": Random(typical_p=0.5), "all": Random(temperature=1.3, top_k=9, top_p=0.95, min_p=0.04, typical_p=0.8),
}  # fmt: skip
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


@every_sampler
def test_draws_are_of_the_distribution_by_chi_squared(sampler):
    logits, n = torch.randn(12, generator=torch.Generator().manual_seed(4)) * 1.5, 20_000
    p = sampler.probabilities(logits[None])[0].double()
    rows = sampler.pick(logits.expand(n, 12), torch.Generator().manual_seed(0))
    each = sampler.pick_each(logits.expand(n // 10, 12), [torch.Generator().manual_seed(i) for i in range(n // 10)])
    for picked in (rows, each):
        seen = torch.bincount(picked, minlength=12).double()
        assert not seen[p == 0].any()
        assert chance(seen[p > 0].tolist(), (p * len(picked))[p > 0].tolist()) > 1e-3


@every_sampler
@pytest.mark.parametrize("at_least", [1, 2])
def test_what_is_cut_is_what_transformers_cuts(sampler, at_least):
    warpers = pytest.importorskip("transformers").generation.logits_process
    chain = [warpers.TemperatureLogitsWarper(float(sampler.temperature))]
    for wanted, warper, value in [
        (sampler.top_k is not None, warpers.TopKLogitsWarper, sampler.top_k), (sampler.top_p < 1, warpers.TopPLogitsWarper, sampler.top_p),
        (sampler.min_p > 0, warpers.MinPLogitsWarper, sampler.min_p), (sampler.typical_p < 1, warpers.TypicalLogitsWarper, sampler.typical_p),
    ]:  # fmt: skip
        chain += [warper(value, min_tokens_to_keep=at_least)] if wanted else []
    logits = torch.randn(400, 50, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 8, 400)[:, None]
    expected = logits
    for one in chain:
        expected = one(None, expected)
    torch.testing.assert_close(sampler.cut(logits, at_least), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sampler", [Random(top_p=0.8), Random(top_p=0.5, min_p=0.05), Random(top_p=0.9, typical_p=0.7)], ids=str)
def test_a_large_vocabulary_is_cut_alike_whether_all_of_it_is_sorted_or_not(sampler, monkeypatch):
    logits = torch.randn(12, 3000, generator=torch.Generator().manual_seed(2)) * torch.linspace(3, 6, 12)[:, None]
    at_once = sampler.cut(logits)
    assert ((logits.softmax(-1).topk(samplers.LIKELY).values.sum(-1)) > sampler.top_p).all()
    flat = torch.cat([logits, logits[:1] * 0.01])  # the likeliest 1024 of that row do not reach it
    torch.testing.assert_close(sampler.cut(flat)[:-1], at_once)
    monkeypatch.setattr(samplers, "LIKELY", 3000)
    torch.testing.assert_close(sampler.cut(logits), at_once)


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}, {"typical_p": 0.0}])
def test_impossible_samplers_are_refused(fields):
    with pytest.raises(ConfigError, match=f"Random.{next(iter(fields))}="):
        Random(**fields)
