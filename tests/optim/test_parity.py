"""Trajectories of optimisers are those of torch, of transformers, or of their papers' pseudo-code, to 1e-6."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bloomery.models import LlamaConfig
from bloomery.optim import Adafactor, Adam, AdamW, Lamb, Lars, Lion, Muon, Sgd
from bloomery.optim.groups import Role, members

STEPS = 20


class Small(nn.Module):
    """An embedding, a tall and a wide matrix, and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.wide, self.tall = nn.Embedding(7, 6), nn.Linear(6, 4), nn.Linear(4, 9)


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def assert_same_course(config, reference, factor=lambda step: (step + 1) / STEPS) -> None:
    """Both do twenty steps under a rate that rises; `reference` makes, for a model, what does a step at a factor."""
    ours, theirs = small(), small()
    optimizer, step_of_theirs = config.build(ours), reference(theirs)
    for step in range(STEPS):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step(factor(step))
        with torch.no_grad():
            step_of_theirs(factor(step))
    moved = [(a - b).abs().max() for a, b in zip(ours.parameters(), small().parameters(), strict=True)]
    assert min(moved) > 1e-4
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def torchs(kind, decay: float = 0.0, **settings):
    """A torch optimiser whose matrices decay, and nothing else does."""

    def reference(model):
        decayed = [m.parameter for m in members(model) if m.role in (Role.MATRIX, Role.HEAD)]
        others = [m.parameter for m in members(model) if m.role not in (Role.MATRIX, Role.HEAD)]
        return following(kind([{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}], **settings))

    return reference


def following(optimizer):
    """Steps of a torch optimiser under a schedule."""
    rates = [group["lr"] for group in optimizer.param_groups]

    def step(factor: float) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.step()

    return step


CASES = {
    "sgd": (Sgd(learning_rate=0.05, momentum=0.0, form="heavy_ball"), torchs(torch.optim.SGD, lr=0.05)),
    "sgd heavy ball": (Sgd(learning_rate=0.05, form="heavy_ball", weight_decay=0.1), torchs(torch.optim.SGD, 0.1, lr=0.05, momentum=0.9)),
    "sgd nesterov": (Sgd(learning_rate=0.05, weight_decay=0.1), torchs(torch.optim.SGD, 0.1, lr=0.05, momentum=0.9, nesterov=True)),
    "adam": (Adam(learning_rate=0.01, weight_decay=0.1), torchs(torch.optim.Adam, 0.1, lr=0.01, betas=(0.9, 0.95), fused=False)),
    "adamw": (AdamW(learning_rate=0.01, weight_decay=0.3), torchs(torch.optim.AdamW, 0.3, lr=0.01, betas=(0.9, 0.95), fused=False)),
    "adafactor": (Adafactor(weight_decay=0.1), torchs(torch.optim.Adafactor, 0.1, lr=0.01, foreach=False)),
    "adafactor, a large rate": (Adafactor(learning_rate=0.9, clip=2.0), torchs(torch.optim.Adafactor, lr=0.9, d=2.0, foreach=False)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_trajectories_equal_torchs(case):
    assert_same_course(*case)


def test_adafactors_trajectory_equals_transformers():
    from transformers.optimization import Adafactor as Theirs

    absolute = torchs(Theirs, 0.1, lr=0.01, relative_step=False, scale_parameter=False)
    assert_same_course(Adafactor(step_size="absolute", weight_decay=0.1), absolute)

    def relative(model):
        optimizer = Theirs(model.parameters())
        return lambda factor: optimizer.step()

    # Its relative rates follow no schedule: they are min(1/100, 1/√t).
    assert_same_course(Adafactor(), relative, factor=lambda step: 1.0)


def test_a_row_without_a_gradient_stays_finite_under_adafactor():
    model = small()
    give_gradients(model, 0)
    model.table.weight.grad[3:] = 0
    model.tall.weight.grad.zero_()
    Adafactor().build(model).step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_muons_trajectory_equals_torchs_in_its_own_precision(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # theirs iterates in bf16, which no two programs round alike

    def reference(model):
        matrices = [m.parameter for m in members(model) if m.role is Role.MATRIX]
        others = [m.parameter for m in members(model) if m.role is not Role.MATRIX]
        muon = following(torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
        adamw = following(torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0))
        return lambda factor: (muon(factor), adamw(factor))

    assert_same_course(Muon(learning_rate=0.02, others=AdamW(learning_rate=0.01)), reference)


def by_the_paper(update):
    """Steps by `update(parameter, gradient, memory, rate, is_vector, decay)`, tensor by tensor."""

    def reference(model):
        memories = {member.name: {} for member in members(model)}

        def step(factor: float) -> None:
            for m in members(model):
                decay = 0.1 if m.role is Role.MATRIX else 0.0
                update(m.parameter, m.parameter.grad, memories[m.name], 0.01 * factor, m.role is Role.VECTOR, decay)

        return step

    return reference


def lion(theta, g, memory, rate, is_vector, decay):
    m = memory.setdefault("m", torch.zeros_like(theta))
    c = 0.9 * m + 0.1 * g
    theta -= rate * (c.sign() + decay * theta)
    memory["m"] = 0.99 * m + 0.01 * g


def lars(theta, g, memory, rate, is_vector, decay):
    local = 1.0 if is_vector else 0.02 * theta.norm() / (g.norm() + decay * theta.norm())
    memory["v"] = 0.9 * memory.get("v", 0.0) + rate * local * (g + decay * theta)
    theta -= memory["v"]


def lamb(theta, g, memory, rate, is_vector, decay):
    t = memory["t"] = memory.get("t", 0) + 1
    m = memory["m"] = 0.9 * memory.get("m", 0.0) + 0.1 * g
    v = memory["v"] = 0.999 * memory.get("v", 0.0) + 0.001 * g * g
    r = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-6)
    step = r + decay * theta
    theta -= rate * (1.0 if is_vector else theta.norm() / step.norm()) * step


PAPERS = {
    "lion": (Lion(learning_rate=0.01, weight_decay=0.1), lion),
    "lars": (Lars(learning_rate=0.01, weight_decay=0.1, trust=0.02, vector_rate=1.0), lars),
    "lamb": (Lamb(learning_rate=0.01, weight_decay=0.1), lamb),
}


@pytest.mark.parametrize("case", PAPERS.values(), ids=PAPERS)
def test_trajectories_equal_the_papers(case):
    config, update = case
    assert_same_course(config, by_the_paper(update))


@pytest.mark.parametrize("config", [Lars(trust=0.1), Lamb(learning_rate=0.01), Adafactor(), Muon()], ids=lambda config: config.kind())
def test_matrices_in_a_fused_one_move_as_if_they_stood_alone(config):
    model = LlamaConfig(vocab_size=32, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=24, max_seq_len=16).build(seed=0)
    fused = model.blocks[0].mixer.qkv.weight
    apart = nn.ModuleList([nn.Linear(16, height, bias=False) for height in (16, 8, 8)])
    with torch.no_grad():
        for linear, block in zip(apart, fused.split((16, 8, 8)), strict=True):
            linear.weight.copy_(block * (1 + linear.out_features))  # of sizes of their own
        fused.copy_(torch.cat([linear.weight for linear in apart]))
    together, alone = config.build(model), config.build(apart)
    for step in range(5):
        give_gradients(model, step)
        for linear, gradient in zip(apart, fused.grad.split((16, 8, 8)), strict=True):
            gradient.mul_(linear.out_features)
            linear.weight.grad = gradient.clone()
        together.step()
        alone.step()
    torch.testing.assert_close(fused, torch.cat([linear.weight for linear in apart]), rtol=1e-5, atol=1e-6)


def test_a_matrix_of_zeros_is_moved_by_lars_and_lamb():
    for config in (Lars(), Lamb()):
        model = nn.Linear(3, 3, bias=False)
        nn.init.zeros_(model.weight)
        give_gradients(model, 0)
        config.build(model).step()
        assert model.weight.abs().min() > 0
        assert math.isfinite(model.weight.sum().item())
