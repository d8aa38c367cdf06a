"""Penalties on weights under an adapter: what is held is the model that it makes, and what it is made of feels that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.mesh import ALONE, Holding, Layout
from bloomery.models import AdaptedConfig
from bloomery.nn.adapters import Int8, LoRA, QLoRA, RsLoRA, shells
from bloomery.nn.linear import Linear, Use
from bloomery.objectives import EWC, L2SP, CausalLM, Objective
from bloomery.train.beside import pull_of
from tests.mesh.ranks import on_ranks
from tests.train.test_beside import PENALTY, Given, Known, anchor, beside, importance, run
from tests.train.toys import TINY

ADAPTERS = [
    LoRA(rank=3), LoRA(rank=2, alpha=5.0, targets=("query", "ff.down", "blocks.1.mixer.qkv.value")),
    LoRA(rank=2, targets=("head", "mixer"), whole=("norm",)), RsLoRA(rank=2, alpha=3.0, targets=("ff",)),
    QLoRA(rank=2, targets=("mixer",), bits=Int8(block=8)),
]  # fmt: skip


def adapted(adapter: LoRA, seed: int = 0) -> nn.Module:
    """A model with an adapter that has learnt something."""
    model = AdaptedConfig(base=TINY, adapter=adapter).build(seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def naive(model: nn.Module, strength: float) -> Tensor:
    """½ λ Σ F·(W − W*)² over the weights of the merged model that are trained, or changed by what is trained."""
    old, matters = (dict(TINY.build(seed=seed).named_parameters()) for seed in (1, 2))
    moved = {f"{path}.weight": shell.matrix for path, shell in shells(model).items()}
    moved |= {name: p for name, p in model.named_parameters() if p.requires_grad and ".adapters." not in name}
    return 0.5 * strength * sum((matters[n].detach().square() * (w - old[n].detach()).square()).sum() for n, w in moved.items())


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(ADAPTERS), st.floats(0.1, 10.0), st.floats(0.1, 2.0), st.integers(0, 99))
def test_gradients_are_those_of_the_naive_penalty_on_the_merged_weights(adapter, strength, factor, seed):
    model = adapted(adapter, seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    (pull,) = beside(factor * EWC(fisher=Known(), strength=strength) + CausalLM(), model, Holding.alone(model, ALONE)).pulls
    total, metrics = pull.add("cpu")
    by_hand = naive(model, strength)
    torch.testing.assert_close(metrics["ewc"], by_hand.detach())
    torch.testing.assert_close(total, factor * by_hand.detach())
    for parameter, gradient in zip(trained, torch.autograd.grad(factor * by_hand, trained), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


def test_where_the_adapter_began_at_the_anchor_they_are_those_of_the_formula_and_the_anchor_is_not_kept_twice():
    """∂/∂A = s·Bᵀ·(λF ⊙ s·B·A), ∂/∂B = s·(λF ⊙ s·B·A)·Aᵀ."""
    model = adapted(LoRA(rank=2, alpha=5.0, targets=("ff.down",)))
    holding = Holding.alone(model, ALONE)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}

    def began(pour: Any) -> None:
        for name, whole in start.items():
            pour(name, whole)

    pull = pull_of(1.0, PENALTY, model, holding, began, importance)
    pull.add("cpu")
    matters = dict(TINY.build(seed=2).named_parameters())
    assert [spring.slack.shape for spring in pull.springs] == [()] * TINY.n_layers
    for path, shell in shells(model).items():
        a, b, s = shell.adapters["default"].a.weight, shell.adapters["default"].b.weight, 5.0 / 2
        force = 3.0 * matters[f"{path}.weight"].detach().square() * s * (b @ a)
        torch.testing.assert_close(a.grad, s * b.T @ force)
        torch.testing.assert_close(b.grad, s * force @ a.T)


def test_a_fresh_adapter_on_the_anchor_costs_nothing_and_what_it_is_made_of_is_not_pulled_for_itself():
    model = AdaptedConfig(base=TINY, adapter=LoRA(rank=2, whole=("norm",))).build(seed=1)
    pull = pull_of(1.0, L2SP(anchor=Given(), strength=1.0, new_strength=7.0), model, Holding.alone(model, ALONE), anchor)
    total, _ = pull.add("cpu")
    assert total == 0.0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_what_is_frozen_of_an_adapter_feels_nothing():
    model = adapted(LoRA(rank=2))
    kept = [p for name, p in model.named_parameters() if name.endswith(".a.weight")]
    for parameter in kept:
        parameter.requires_grad_(False)
    left = [p for p in model.parameters() if p.requires_grad]
    (pull,) = beside(CausalLM() + PENALTY, model, Holding.alone(model, ALONE)).pulls
    pull.add("cpu")
    assert all(p.grad is None for p in kept)
    for parameter, gradient in zip(left, torch.autograd.grad(naive(model, PENALTY.strength), left), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


class Bowl(nn.Module):
    """A matrix."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.map = Linear(weight.shape[1], len(weight), Use.OTHER)
        self.map.weight.data = weight


def test_on_quadratics_it_is_the_joint_optimum():
    """Old task ½ Σ a(W − u)², learnt to its minimum u; new task ½ Σ b(W − v)²; the adapter has the rank to be any change."""
    a, u, b, v = (torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)) + 0.1 for seed in range(4))
    model = Bowl(u.clone())
    own = LoRA(rank=3, alpha=3.0, targets=("map",)).attach(model, seed=0)
    shell, parameters = shells(model)["map"], list(own.values())
    pull = pull_of(1.0, EWC(fisher=Known()), model, Holding.alone(model, ALONE), lambda p: p("map.weight", u), lambda p: p("map.weight", a))
    for _ in range(3000):
        loss = 0.5 * (b * (shell.matrix - v).square()).sum()
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        pull.add("cpu")
        for parameter in parameters:
            parameter.data -= 0.2 * parameter.grad
    torch.testing.assert_close(shell.matrix.detach(), (a * u + b * v) / (a + b), atol=1e-4, rtol=0)
    assert torch.equal(shell.weight, u)


@pytest.mark.parametrize("penalty", [PENALTY, L2SP(anchor=Given(), strength=0.7)], ids=lambda one: one.kind())
def test_micro_batches_do_not_count_it_more_than_once(penalty):
    objective, config = CausalLM() + 0.5 * penalty, AdaptedConfig(base=TINY, adapter=LoRA(rank=2))
    once, split = run(Layout(), objective, config=config), run(Layout(), objective, micro_batch=1, config=config)
    assert once["losses"] == pytest.approx(split["losses"], rel=1e-5)
    assert [m[penalty.metric] for m in once["metrics"]] == pytest.approx([m[penalty.metric] for m in split["metrics"]], rel=1e-5)
    plain = run(Layout(), CausalLM(), config=config)
    assert once["losses"][0] == pytest.approx(plain["losses"][0] + 0.5 * once["metrics"][0][penalty.metric], rel=1e-5)


ON_RANKS = AdaptedConfig(base=TINY, adapter=LoRA(rank=3, targets=("query", "value", "ff", "head"), whole=("norm",)))
OBJECTIVE: Objective = CausalLM() + 0.5 * PENALTY + 0.1 * L2SP(anchor=Given())


QUANTISED = AdaptedConfig(base=TINY, adapter=QLoRA(rank=2, targets=("value", "ff"), bits=Int8(block=8)))
CASES = [(ON_RANKS, layout) for layout in ("replicate=2", "shard=2,zero=3", "shard=2,zero=1", "context=2", "pipeline=2")]


def all_cases(cases: list[tuple[AdaptedConfig, str]]) -> list[dict[str, Any]]:
    return [run(Layout.parse(layout), OBJECTIVE, micro_batch=1, config=config) for config, layout in cases]


def test_each_rank_pulls_at_its_own_rows():
    cases = [*CASES, (QUANTISED, "shard=2,zero=3")]
    alone = {config: run(Layout(), OBJECTIVE, config=config) for config in (ON_RANKS, QUANTISED)}
    for (config, layout), ranks in zip(cases, zip(*on_ranks(2, all_cases, cases), strict=True), strict=True):
        weights = {name: value for rank in ranks for name, value in rank["weights"].items()}
        assert all(rank["losses"] == pytest.approx(alone[config]["losses"], rel=1e-5) for rank in ranks), layout
        worst = max((weights[name].float() - value.float()).abs().max() for name, value in alone[config]["weights"].items())
        assert worst < 1e-5, layout


def test_a_matrix_that_is_trained_whole_and_changed_as_well_is_refused():
    model = AdaptedConfig(base=TINY, adapter=LoRA(rank=2, targets=("ff.down",), whole=("blocks.0.ff.down",))).build(seed=0)
    with pytest.raises(ConfigError, match=r"trained whole and changes it as well.*leave it out of adapter\.whole"):
        pull_of(1.0, PENALTY, model, Holding.alone(model, ALONE), anchor, importance)
