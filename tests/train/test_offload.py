"""What waits in the host's memory comes back as it was: no number changes."""

from unittest import mock

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout, Mesh
from bloomery.optim import AdamW, Lamb, Muon
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from bloomery.train import TrainState, offload, spreading
from bloomery.train.offload import Away, AwayOptimizer, offload_activations, parse_offload
from bloomery.train.recompute import Recompute, recompute
from tests.mesh.ranks import on_ranks
from tests.train.toys import TINY, fresh, reports, same, weights


class Noting(Away):
    """Notes what it sends."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.sent: list[torch.Tensor] = []

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sent.append(tensor)
        return super().send(tensor)


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


def test_of_blocks_that_are_computed_again_what_they_read_leaves(monkeypatch):
    monkeypatch.setattr(offload, "LEAST_BYTES", 1)
    there, away, notes = fresh(), fresh(), Noting()
    recompute(away.model, Recompute("full"))
    offload_activations(away.model, notes)
    assert [r.loss for r in reports(away, steps=2)] == [r.loss for r in reports(there, steps=2)]
    assert same(weights(away), weights(there))
    assert [tensor.shape[-1] for tensor in notes.sent] == 2 * TINY.n_layers * [TINY.d_model]


def away_under_zero() -> tuple[list[float], list[float], int]:
    """Losses with activations there and away, and how many of the tensors that were sent have the shape of a weight."""
    found, notes = [], Noting()
    for moves in (False, True):
        mesh = Mesh.join(Layout(shard=2))
        parts = spreading.spread_model(TINY, mesh, spreading.fresh(TINY, seed=0))
        if moves:
            offload_activations(parts.model, notes)
        state = TrainState(parts.model, AdamW(learning_rate=1e-2).of(parts.members), holding=parts.holding)
        with mock.patch.object(offload, "LEAST_BYTES", 1):
            found.append([report.loss for report in reports(state, micro_batch=1, steps=4)])
    shapes = {held.part.shape for held in parts.holding.parameters.values()}
    return *found, sum(tuple(tensor.shape) in shapes or tuple(tensor.shape)[::-1] in shapes for tensor in notes.sent)


def test_weights_that_zero_has_gathered_stay():
    for there, away, weights_sent in on_ranks(2, away_under_zero):
        assert away == pytest.approx(there, rel=1e-6)
        assert weights_sent == 0


def test_a_size_for_what_stays_is_refused_where_activations_leave():
    with pytest.raises(ConfigError, match="a size is for what stays on the device.*take --recompute full or selective"):
        RunContext(store=Store("store"), recompute=Recompute("budget", 1 << 30), offload=frozenset({"activations"}))
    RunContext(store=Store("store"), recompute=Recompute("budget", 1 << 30), offload=frozenset({"optimizer"}))


def test_what_cannot_be_moved_is_refused_by_name():
    assert parse_offload("none") == frozenset()
    assert parse_offload("optimizer,activations") == {"activations", "optimizer"}
    with pytest.raises(ConfigError, match="there is no 'weights' to be moved"):
        parse_offload("weights")
