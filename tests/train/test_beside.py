"""Penalties on weights: once a step whatever the micro-batches and ranks, exact on quadratics, and along with losses of rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.mesh import ALONE, Holding, Layout, Mesh
from bloomery.models import ModelConfig
from bloomery.objectives import EWC, L2SP, CausalLM, Distil, DistilHidden, Frozen, Importance, Objective
from bloomery.optim import AdamW
from bloomery.stages.look_back import Nothing
from bloomery.train import Manner, TrainState, train
from bloomery.train.beside import Beside, pull_of
from bloomery.train.spreading import fresh, pour_all, spread_model
from tests.mesh.ranks import on_ranks
from tests.train.toys import ROWS, TINY, Uneven, course


class Given(Frozen):
    """An anchor, for tests."""

    seed: int = 1


class Known(Importance):
    """A Fisher information, for tests."""

    seed: int = 2

    @property
    def measured_on(self) -> Frozen:
        return Given()


PENALTY = EWC(fisher=Known(), strength=3.0)


def anchor(pour: Any) -> None:
    pour_all(TINY.build(seed=1), pour)


def importance(pour: Any) -> None:
    pour_all(TINY.build(seed=2), lambda name, whole: pour(name, whole.square()))


def beside(objective: Objective, model: Any, holding: Any) -> Beside:
    pulls = [pull_of(factor, one, model, holding, anchor, importance if one.importance else None) for factor, one in objective.penalties()]
    return Beside(pulls=pulls)


def run(layout: Layout, objective: Objective, micro_batch: int = ROWS, steps: int = 3, config: ModelConfig = TINY) -> dict[str, Any]:
    parts = spread_model(config, Mesh.join(layout), fresh(config, seed=0))
    state = TrainState(parts.model, AdamW(learning_rate=1e-2, eps=1e-6).of(parts.members), holding=parts.holding)
    state.beside = beside(objective, parts.model, parts.holding)
    reports = list(train(state, Uneven(), course(steps, objective=objective), Manner(micro_batch=micro_batch)))
    weights = {name: held.whole(held.local.detach()).clone() for name, held in parts.holding.parameters.items()}
    return {"losses": [r.loss for r in reports], "metrics": [dict(r.metrics) for r in reports], "weights": weights}


def test_value_and_gradient_are_those_of_the_formula():
    model, old, matters = (TINY.build(seed=seed) for seed in (0, 1, 2))
    state = TrainState(model, AdamW().build(model))
    (pull,) = beside(0.5 * (PENALTY + CausalLM()), model, state.holding).pulls
    total, metrics = pull.add("cpu")
    theirs = zip(model.parameters(), old.parameters(), matters.parameters(), strict=True)
    by_hand = 0.5 * 3.0 * sum((f.detach().square() * (p - o.detach()).square()).sum() for p, o, f in theirs)
    torch.testing.assert_close(metrics["ewc"], by_hand.detach())
    torch.testing.assert_close(total, 0.5 * by_hand.detach())
    for p, gradient in zip(model.parameters(), torch.autograd.grad(0.5 * by_hand, list(model.parameters())), strict=True):
        torch.testing.assert_close(p.grad, gradient)


@pytest.mark.parametrize("penalty", [PENALTY, L2SP(anchor=Given(), strength=0.7)], ids=lambda one: one.kind())
def test_micro_batches_do_not_count_it_more_than_once(penalty):
    objective = CausalLM() + 0.5 * penalty
    once, split = run(Layout(), objective), run(Layout(), objective, micro_batch=1)
    assert once["losses"] == pytest.approx(split["losses"], rel=1e-5)
    assert [m[penalty.metric] for m in once["metrics"]] == pytest.approx([m[penalty.metric] for m in split["metrics"]], rel=1e-5)
    plain = run(Layout(), CausalLM())
    assert once["losses"][0] == pytest.approx(plain["losses"][0] + 0.5 * once["metrics"][0][penalty.metric], rel=1e-5)


def all_layouts(layouts: list[str]) -> list[dict[str, Any]]:
    return [run(Layout.parse(layout), CausalLM() + 0.5 * PENALTY, micro_batch=1) for layout in layouts]


def test_each_rank_penalises_its_own_part():
    layouts = ["replicate=2", "shard=2,zero=3", "shard=2,zero=1", "tensor=2", "pipeline=2"]
    alone = run(Layout(), CausalLM() + 0.5 * PENALTY)
    for ranks in zip(*on_ranks(2, all_layouts, layouts), strict=True):
        weights = {name: value for rank in ranks for name, value in rank["weights"].items()}
        assert all(rank["losses"] == pytest.approx(alone["losses"], rel=1e-5) for rank in ranks)
        assert all((weights[name] - value).abs().max() < 1e-5 for name, value in alone["weights"].items())


class Bowl(torch.nn.Module):
    """θ."""

    def __init__(self, theta: torch.Tensor) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(theta)


def test_on_quadratics_it_is_the_joint_optimum():
    """Old task ½ Σ a(θ − u)², learnt to its minimum u, where its Fisher information is a; new task ½ Σ b(θ − v)²."""
    a, u, b, v = (torch.rand(6, generator=torch.Generator().manual_seed(seed)) + 0.1 for seed in range(4))
    model = Bowl(u.clone())
    pull = pull_of(1.0, EWC(fisher=Known()), model, Holding.alone(model, ALONE), lambda pour: pour("theta", u), lambda pour: pour("theta", a))
    for _ in range(400):
        model.theta.grad = (b * (model.theta - v)).detach()
        pull.add("cpu")
        model.theta.data -= 0.5 * model.theta.grad
    torch.testing.assert_close(model.theta.detach(), (a * u + b * v) / (a + b), atol=1e-5, rtol=0)
    assert ((2 * a * u + b * v) / (2 * a + b) - model.theta).abs().max() > 1e-2  # where it would be without the ½


def test_new_weights_are_pulled_to_zero_by_l2_sp_and_not_at_all_by_ewc():
    model = TINY.build(seed=0)
    state = TrainState(model, AdamW().build(model))

    def without_norm(pour: Any) -> None:
        anchor(lambda name, whole: pour(name, whole) if name != "norm.weight" else None)

    found = pull_of(1.0, L2SP(anchor=Given(), strength=1.0, new_strength=0.5), model, state.holding, without_norm)
    new = {one.held.name: (one.stiffness.item(), one.rest.sum().item()) for one in found.springs}
    assert new["norm.weight"] == (0.5, 0.0)
    assert new["embedding.weight"][0] == 1.0
    names = [one.held.name for one in pull_of(1.0, PENALTY, model, state.holding, without_norm, importance).springs]
    assert "norm.weight" not in names
    assert "embedding.weight" in names


def test_an_anchor_that_has_nothing_of_the_model_is_refused():
    model = TINY.build(seed=0)
    with pytest.raises(ConfigError, match="has none of the weights that are trained"):
        pull_of(1.0, PENALTY, model, Holding.alone(model, ALONE), lambda pour: pour("elsewhere", torch.ones(1)), importance)


def test_an_anchor_is_that_of_the_fisher_information():
    assert EWC(fisher=Known()) == EWC(fisher=Known(), anchor=Given())
    assert EWC(fisher=Known()).identity() == EWC(fisher=Known(), anchor=Given()).identity()
    with pytest.raises(ConfigError, match=r"EWC\.fisher was measured on .*; leave the anchor out"):
        EWC(fisher=Known(), anchor=Given(seed=5))


def taught(layouts: list[str]) -> list[dict[str, Any]]:
    return [run_taught(Layout.parse(layout)) for layout in layouts]


def run_taught(layout: Layout) -> dict[str, Any]:
    mesh, teacher = Mesh.join(layout), Given()
    objective = 0.5 * CausalLM() + 0.5 * Distil(teacher=teacher, temperature=2.0) + 0.1 * DistilHidden(teacher=teacher)
    parts = spread_model(TINY, mesh, fresh(TINY, seed=0))
    state = TrainState(parts.model, AdamW(learning_rate=1e-2, eps=1e-6).of(parts.members), holding=parts.holding)
    state.beside = Beside(frozen={teacher.address: spread_model(TINY, mesh, fresh(TINY, seed=1), Nothing()).model.eval()})
    reports = list(train(state, Uneven(), course(3, objective=objective), Manner(micro_batch=1)))
    weights = {name: held.whole(held.local.detach()).clone() for name, held in parts.holding.parameters.items()}
    return {"losses": [r.loss for r in reports], "weights": weights}


def test_a_teacher_is_spread_with_its_student():
    alone, layouts = run_taught(Layout()), ["replicate=2", "shard=2,zero=3", "shard=2,zero=1"]
    for ranks in zip(*on_ranks(2, taught, layouts), strict=True):
        weights = {name: value for rank in ranks for name, value in rank["weights"].items()}
        assert all(rank["losses"] == pytest.approx(alone["losses"], rel=1e-5) for rank in ranks)
        assert all((weights[name] - value).abs().max() < 1e-5 for name, value in alone["weights"].items())
