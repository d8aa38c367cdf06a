"""What waits in the host's memory comes back as it was: no number changes."""

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.optim import AdamW, Lamb, Muon
from bloomery.train import offload
from bloomery.train.offload import Away, AwayOptimizer, offload_activations, parse_offload
from tests.train.toys import fresh, reports, same, weights


@pytest.mark.parametrize("optimizer", [AdamW(learning_rate=1e-2), Muon(learning_rate=1e-2), Lamb(learning_rate=1e-2)], ids=lambda o: o.kind())
def test_updates_with_state_away_are_bitwise_those_with_it_there(optimizer, monkeypatch):
    monkeypatch.setattr(offload, "CHUNK_BYTES", 1)  # one parameter at a time
    there, away = fresh(optimizer), fresh(optimizer)
    away.optimizer = AwayOptimizer(away.optimizer)
    assert [r.loss for r in reports(away)] == [r.loss for r in reports(there)]
    assert same(weights(away), weights(there))
    assert same(away.optimizer.state(), there.optimizer.state())


def test_a_state_is_taken_over_from_an_optimiser_that_keeps_it_there():
    there, other = fresh(), fresh()
    reports(there, steps=4)
    away = AwayOptimizer(other.optimizer)
    away.load(there.optimizer.state())
    assert same(away.state(), there.optimizer.state())


def test_activations_that_were_away_give_the_same_gradients(monkeypatch):
    monkeypatch.setattr(offload, "LEAST_BYTES", 1)
    there, away = fresh(), fresh()
    assert offload_activations(away.model, Away("cpu")) == 2
    # What was a view comes back as a tensor of its own, which products may add up in another order.
    assert [r.loss for r in reports(away)] == pytest.approx([r.loss for r in reports(there)], rel=1e-6)
    for name, weight in weights(there).items():
        torch.testing.assert_close(weights(away)[name], weight, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_moved_is_refused_by_name():
    assert parse_offload("none") == frozenset()
    assert parse_offload("optimizer,activations") == {"activations", "optimizer"}
    with pytest.raises(ConfigError, match="there is no 'weights' to be moved"):
        parse_offload("weights")
