"""Mixtures of experts beside their equation: every expert on every token, weighed by 0 where it is not chosen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.models import TransformerConfig
from bloomery.nn import AttentionConfig, FanInInit, GatedConfig, NormalInit
from bloomery.nn.experts import Experts, ExpertsConfig, RouterConfig, SigmoidRouterConfig, SoftmaxRouterConfig
from bloomery.nn.grouped import grouped_product
from bloomery.nn.init import initialise
from bloomery.optim import Muon
from bloomery.optim.groups import members
from bloomery.optim.muon import orthogonalise

ROUTERS = (
    SoftmaxRouterConfig(),
    SoftmaxRouterConfig(renormalise=False),
    SigmoidRouterConfig(scale=2.5),
    SigmoidRouterConfig(renormalise=False, n_groups=3, n_active_groups=2),
)


def build(config: ExpertsConfig, d_model: int, seed: int = 0) -> Experts:
    """Routers decided enough, and biases that count."""
    ff, generator = config.build(d_model), torch.Generator().manual_seed(seed + 1)
    initialise(ff, NormalInit(std=0.4), n_layers=1, seed=seed)
    if isinstance(config.router, SigmoidRouterConfig):
        ff.router.bias.data = torch.randn(config.n_experts, generator=generator) * 0.3
    return ff


def naive(ff: Experts, x: torch.Tensor) -> torch.Tensor:
    routing = ff.router(x)
    weights = torch.zeros_like(routing.shares).scatter(1, routing.experts, routing.weights)  # (tokens, n_experts)
    y = torch.zeros_like(x) if ff.shared is None else ff.shared(x)
    for e in range(len(ff.gate_up.weight)):
        gate, up = (x @ ff.gate_up.weight[e].T).chunk(2, dim=-1)
        y = y + weights[:, e, None] * ((ff.activation(gate) * up) @ ff.down.weight[e].T)
    return y


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_sorted_experts_equal_every_expert_on_every_token(data):
    n_experts = data.draw(st.sampled_from((1, 2, 3, 4, 5, 6, 9, 12)))
    fits = [r for r in ROUTERS if not r.check_experts(n_experts, 1)]
    router: RouterConfig = data.draw(st.sampled_from(fits))
    room = [k for k in range(1, n_experts + 1) if not router.check_experts(n_experts, k)]
    config = ExpertsConfig(
        n_experts=n_experts, n_active=data.draw(st.sampled_from(room)), d_ff=data.draw(st.integers(1, 9)),
        n_shared=data.draw(st.integers(0, 2)), router=router, activation=data.draw(st.sampled_from(("silu", "gelu"))),
    )  # fmt: skip
    d_model, tokens = data.draw(st.integers(1, 8)), data.draw(st.integers(0, 12))
    ff = build(config, d_model, seed=data.draw(st.integers(0, 99)))
    x = torch.randn(tokens, d_model, generator=torch.Generator().manual_seed(7))
    asked = torch.randn(x.shape, generator=torch.Generator().manual_seed(8))
    results = []
    for form in (ff, lambda x: naive(ff, x)):
        ff.zero_grad()
        leaf = x.clone().requires_grad_()
        y = form(leaf)
        (y * asked).sum().backward()
        results.append([y, leaf.grad, *(torch.zeros_like(p) if p.grad is None else p.grad for p in ff.parameters())])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)


def test_experts_that_get_no_token_have_no_gradient():
    ff = build(ExpertsConfig(n_experts=5, n_active=1, d_ff=3), d_model=4)
    ff.router.map.weight.data.zero_()
    ff.router.map.weight.data[3] = 1.0
    ff(torch.ones(6, 4)).sum().backward()
    for gradient in (ff.gate_up.weight.grad, ff.down.weight.grad):
        assert [bool(of_one.any()) for of_one in gradient] == [False, False, False, True, False]


def test_a_group_of_rows_is_multiplied_by_its_own_matrix():
    x, weight = torch.randn(7, 3), torch.randn(4, 5, 3)
    y = grouped_product(x, weight, torch.tensor([2, 2, 6, 7], dtype=torch.int32))
    expected = torch.stack([weight[g] @ row for g, row in zip((0, 0, 2, 2, 2, 2, 3), x, strict=True)])
    torch.testing.assert_close(y, expected)


def test_grouped_products_follow_autocast():
    x, weight, ends = torch.randn(4, 3), torch.randn(2, 5, 3), torch.tensor([1, 4], dtype=torch.int32)
    with torch.autocast("cpu", torch.bfloat16):
        assert grouped_product(x, weight, ends).dtype == torch.bfloat16
        assert build(ExpertsConfig(n_experts=3, n_active=2, d_ff=4), 4)(torch.randn(2, 4)).isfinite().all()


def test_softmax_weights_are_probabilities_that_add_up_to_one_where_renormalised():
    x = torch.randn(9, 6)
    for renormalise in (True, False):
        router = build(ExpertsConfig(n_experts=5, n_active=2, d_ff=2, router=SoftmaxRouterConfig(renormalise=renormalise)), 6).router
        routing = router(x)
        best = (x @ router.map.weight.T).softmax(-1).sort(descending=True)
        assert torch.equal(routing.experts, best.indices[:, :2])
        of_all = best.values[:, :2]
        torch.testing.assert_close(routing.weights, of_all / of_all.sum(-1, keepdim=True) if renormalise else of_all)


def test_the_correction_decides_who_is_chosen_but_not_how_much_he_counts():
    router = build(ExpertsConfig(n_experts=4, n_active=1, d_ff=2, router=SigmoidRouterConfig(renormalise=False)), 6).router
    x = torch.randn(5, 6)
    router.bias.data = torch.tensor([0.0, 0.0, 10.0, 0.0])
    routing = router(x)
    assert (routing.experts == 2).all()
    torch.testing.assert_close(routing.weights[:, 0], (x @ router.map.weight[2]).sigmoid())


def test_experts_come_from_the_groups_with_the_best_pairs():
    config = ExpertsConfig(n_experts=6, n_active=2, d_ff=2, router=SigmoidRouterConfig(n_groups=3))
    router = build(config, 6).router
    router.map.weight.data, router.bias.data = torch.eye(6), torch.zeros(6)
    routing = router(torch.tensor([[9.0, -9.0, 1.0, 2.0, 0.0, 0.0]]))  # the best alone is in group 0, the best pair in group 1
    assert set(routing.experts[0].tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_active": 5}, "ExpertsConfig.n_active=5 is more than n_experts=4"),
        ({"router": SigmoidRouterConfig(n_groups=3)}, "n_groups=3, which do not share n_experts=4"),
        ({"router": SigmoidRouterConfig(n_groups=4)}, "n_groups=4, which do not share n_experts=4"),
        ({"n_active": 3, "router": SigmoidRouterConfig(n_groups=2)}, "n_active_groups=1 with 2 experts, fewer than n_active=3"),
    ],
)
def test_impossible_choices_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ExpertsConfig(**{"n_experts": 4, "n_active": 2, "d_ff": 8} | fields)


def test_more_open_groups_than_groups_are_refused():
    with pytest.raises(ConfigError, match="n_active_groups=3 is more than n_groups=2"):
        SigmoidRouterConfig(n_groups=2, n_active_groups=3)


def test_matrices_are_drawn_by_their_own_shape():
    ff = ExpertsConfig(n_experts=8, n_active=2, d_ff=64).build(32)
    initialise(ff, FanInInit(), n_layers=2, seed=0)
    assert ff.gate_up.weight.std().item() == pytest.approx(32**-0.5, rel=0.05)
    assert ff.down.weight.std().item() == pytest.approx(64**-0.5 / 2, rel=0.05)  # to the residual stream, of two layers


def with_experts() -> TransformerConfig:
    return TransformerConfig(
        vocab_size=32, d_model=16, n_layers=2, max_seq_len=16, mixers=(AttentionConfig(n_heads=2),),
        feed_forwards=(GatedConfig(d_ff=24), ExpertsConfig(n_experts=6, n_active=2, d_ff=8, n_shared=1)),
    )


def test_active_parameters_and_operations_leave_out_idle_experts():
    config, used = with_experts(), with_experts().feed_forwards[1]
    assert config.n_params - config.n_active_params == 4 * 3 * 16 * 8
    plain = sum(p.numel() for name, p in used.replace(n_experts=2).build(16).named_parameters() if not name.startswith("router"))
    assert used.flops(16) == 2 * (plain + 6 * 16)  # a multiply-add per weight that a token meets


def test_muon_treats_each_matrix_of_each_expert_by_itself():
    model = with_experts().build(0)
    assert {m.name: m.blocks for m in members(model)}["blocks.1.ff.gate_up.weight"] == (8, 8) * 6
    weight = model.blocks[1].ff.gate_up.weight
    before = weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    Muon(learning_rate=0.1, weight_decay=0.0).build(model).step()
    update = weight.grad * 1.95  # Nesterov's first
    expected = before.unflatten(1, (2, 8)) - 0.1 * 0.2 * 16**0.5 * orthogonalise(update.unflatten(1, (2, 8)).flatten(0, 1)).view(6, 2, 8, 16)
    torch.testing.assert_close(weight, expected.flatten(1, 2), atol=1e-5, rtol=0)
