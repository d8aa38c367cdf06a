"""Whatever part of a tensor a rank holds, an optimiser moves it as one rank moves the whole."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.rng import derive_seed
from bloomery.mesh import Layout, Mesh
from bloomery.models import LlamaConfig, MixtralConfig
from bloomery.optim import Adafactor, Adam, AdamW, Lamb, Lars, Lion, Muon, OptimizerConfig, Sgd
from bloomery.optim.deal import deals
from bloomery.optim.groups import Role
from bloomery.train.spreading import fresh, spread_model
from tests.contracts.test_optimizers import kinds
from tests.mesh.layouts import run
from tests.mesh.ranks import on_ranks

DENSE = LlamaConfig(vocab_size=31, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=24, max_seq_len=16, tie_embeddings=False)
EXPERTS = MixtralConfig(
    vocab_size=32, d_model=16, n_layers=1, n_heads=2, n_kv_heads=2, d_ff=24, max_seq_len=16, n_experts=4, n_active=2, tie_embeddings=False,
)  # fmt: skip
CASES = {
    "shard=2": (Layout(shard=2), DENSE), "tensor=2": (Layout(tensor=2), DENSE), "experts, shard=2": (Layout(shard=2), EXPERTS),
    "experts, shard=2, expert=2": (Layout(shard=2, expert=2), EXPERTS), "experts, tensor=2, expert=2": (Layout(tensor=2, expert=2), EXPERTS),
}  # fmt: skip
OPTIMIZERS: dict[str, OptimizerConfig] = {
    "Adafactor": Adafactor(weight_decay=0.1), "Adam": Adam(weight_decay=0.1), "AdamW": AdamW(), "Lamb": Lamb(), "Lars": Lars(),
    "Lion": Lion(), "Muon": Muon(), "Sgd": Sgd(weight_decay=0.1),
}  # fmt: skip


WHOLE = ("Adafactor", "Lamb", "Lars", "Muon")
"""Those that look at more than a number at a time, which are also seen at work."""


def move(layout: Layout, config, optimizer: OptimizerConfig, steps: int = 10) -> dict[str, torch.Tensor]:
    """The weights after some steps with given gradients; the optimiser is replaced by one that has loaded its state half-way."""
    parts = spread_model(config, Mesh.join(layout), fresh(config, seed=0))
    stepper = optimizer.of(parts.members)
    for step in range(steps):
        if step == steps // 2:
            state = {name: value.clone() for name, value in stepper.state().items()}
            stepper = optimizer.of(parts.members)
            stepper.load(state)
        for name, held in parts.holding.parameters.items():
            generator = torch.Generator().manual_seed(derive_seed(step, name))
            held.local.grad = held.own(torch.randn(held.part.shape, generator=generator)).clone()
        stepper.step()
    return {name: held.whole(held.local.detach()).clone() for name, held in parts.holding.parameters.items()}


def learn(layout: Layout, optimizer: OptimizerConfig) -> dict[str, torch.Tensor]:
    """The weights after some steps of training."""
    return run(layout, steps=10, optimizer=optimizer)["weights"]


FOUR = {
    "shard=2, tensor=2": (Layout(shard=2, tensor=2), DENSE), "experts, shard=2, tensor=2": (Layout(shard=2, tensor=2), EXPERTS),
    "experts, shard=2, tensor=2, expert=4": (Layout(shard=2, tensor=2, expert=4), EXPERTS),
    "replicate=2, shard=2": (Layout(replicate=2, shard=2), DENSE),
}  # fmt: skip
PAIRS = [(case, name) for case in CASES for name in (WHOLE if "experts" in case else OPTIMIZERS)]


def move_whole() -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    return {(case, name): move(*FOUR[case], OPTIMIZERS[name]) for case in FOUR for name in WHOLE}


def dealt(layout: Layout) -> list[tuple[int, int]]:
    """Which matrices this rank orthogonalises."""
    parts = spread_model(DENSE, Mesh.join(layout), fresh(DENSE, seed=0))
    (deal,) = deals([member for member in parts.members if member.role is Role.MATRIX])
    return [(matrix.member, matrix.block) for matrix in deal.own]


def on_a_rank() -> tuple[dict[tuple[str, str], dict[str, torch.Tensor]], list[tuple[int, int]]]:
    moved = {(case, name): move(*CASES[case], OPTIMIZERS[name]) for case, name in PAIRS}
    learnt = {(axis, name): learn(Layout(**{axis: 2}), OPTIMIZERS[name]) for axis in ("shard", "tensor") for name in WHOLE}
    return moved | learnt, dealt(Layout(shard=2))


@pytest.fixture(scope="module")
def on_two_ranks():
    return on_ranks(2, on_a_rank)


def test_there_is_a_case_for_every_optimizer():
    assert set(OPTIMIZERS) == {kind.__name__ for kind in kinds(OptimizerConfig)}


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_two_ranks_move_weights_as_one_does(on_two_ranks, case, name):
    assert_equal([weights[case, name] for weights, _ in on_two_ranks], move(Layout(), CASES[case][1], OPTIMIZERS[name]))


@pytest.mark.parametrize("axis", ["shard", "tensor"])
@pytest.mark.parametrize("name", WHOLE)
def test_two_ranks_learn_as_one_does(on_two_ranks, axis, name):
    assert_equal([weights[axis, name] for weights, _ in on_two_ranks], learn(Layout(), OPTIMIZERS[name]))


def test_each_matrix_is_dealt_to_one_rank(on_two_ranks):
    (_, first), (_, second) = on_two_ranks
    assert not set(first) & set(second)
    assert len(first) + len(second) == DENSE.n_layers * (3 + 1 + 2 + 1)  # queries, keys, values; out; gate, up; down
    assert len(first) >= 5 <= len(second)


@pytest.mark.slow
def test_four_ranks_move_weights_as_one_does():
    of_ranks = on_ranks(4, move_whole)
    for case in FOUR:
        for name in WHOLE:
            assert_equal([of_rank[case, name] for of_rank in of_ranks], move(Layout(), FOUR[case][1], OPTIMIZERS[name]))


def assert_equal(of_ranks: list[dict[str, torch.Tensor]], alone: dict[str, torch.Tensor]) -> None:
    for weights in of_ranks:
        assert weights.keys() == alone.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, alone[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
