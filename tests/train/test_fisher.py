"""The Fisher information: exact where it can be known, the same however rows are cut, and no square of means."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bloomery.core.errors import DataError
from bloomery.data.batch import Batch
from bloomery.models import LlamaConfig
from bloomery.nn.layout import SequenceLayout
from bloomery.train.fisher import Empirical, Exact, Sampled, fisher
from tests.train.toys import TINY, Uneven

SMALL = LlamaConfig(vocab_size=7, d_model=8, n_layers=1, n_heads=1, d_ff=8, max_seq_len=8)


def small(rows: int, time: int = 4, seed: int = 0, first_row: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(7, (rows, time), generator=generator)
    return Batch(tokens, tokens.roll(-1, 1), torch.ones(rows, time), SequenceLayout.rows(rows, time), first_row)


class Unigram(nn.Module):
    """Logits that nothing goes into: θ itself."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def features(self, tokens, layout, passage=None):
        return torch.zeros(*tokens.shape, 1)

    def head(self, features):
        return self.logits.expand(len(features), -1)


def test_exact_is_the_closed_form_of_a_softmax():
    logits = torch.tensor([0.3, -1.0, 0.8, 0.0, 0.1, -0.4, 1.2])
    found, weight = fisher(Unigram(logits), [small(3)], Exact())
    p = logits.softmax(0)
    torch.testing.assert_close(found["logits"], p * (1 - p))  # the diagonal of diag(p) − p·pᵀ
    assert weight == 12


@given(st.integers(1, 7))
@settings(max_examples=5, deadline=None)
def test_batches_change_nothing(size: int):
    model = TINY.build(seed=0)
    whole = Uneven().batch(0, 6)
    for estimator in (Sampled(draws=2), Empirical()):
        once, _ = fisher(model, [whole], estimator)
        parts, _ = fisher(model, list(whole.split(size)), estimator)
        assert all(torch.equal(once[name], parts[name]) for name in once)


def test_sampled_comes_to_exact():
    model, rows = SMALL.build(seed=0), small(2)
    exact, _ = fisher(model, [rows], Exact())
    sampled, _ = fisher(model, [rows], Sampled(draws=400))
    for name, value in exact.items():
        assert (sampled[name].sum() / value.sum()).item() == pytest.approx(1.0, abs=0.2), name


def test_the_square_of_a_mean_is_another_number():
    model, rows = SMALL.build(seed=0), small(32)
    found, _ = fisher(model, [rows], Empirical())
    features = model.features(rows.tokens, rows.layout).flatten(0, 1)
    total, _ = model.head.cross_entropy(features, rows.targets.flatten(), rows.loss_weight.flatten())
    squares = [g.square().sum() for g in torch.autograd.grad(total / rows.weight, list(model.parameters()))]
    assert sum(squares) < 0.5 * sum(value.sum() for value in found.values())


def test_rows_without_anything_to_learn_are_refused():
    rows = small(2)
    empty = Batch(rows.tokens, rows.targets, torch.zeros(2, 4), rows.layout)
    with pytest.raises(DataError, match="no weight matters"):
        fisher(SMALL.build(seed=0), [empty], Empirical())
