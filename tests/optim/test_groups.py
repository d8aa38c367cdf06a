"""Rates are read off the model: of hidden matrices under µP, and 1 of all else."""

import pytest
import torch

from bloomery.models import LlamaConfig
from bloomery.models.mup import mup
from bloomery.nn import MuPInit, NormalInit
from bloomery.optim import Adafactor, Adam, AdamW, Lamb, Lars, Lion, Muon, Sgd
from bloomery.optim.groups import Role, members

LLAMA = LlamaConfig(vocab_size=32, d_model=64, n_layers=2, n_heads=4, d_ff=48, max_seq_len=16, tie_embeddings=False)
WIDE = mup(LLAMA, MuPInit(base_width=16, base_head_dim=4))


def test_hidden_matrices_have_the_rate_of_their_width():
    for member in members(WIDE.build(0)):
        assert member.rate == (0.25 if member.role is Role.MATRIX else 1.0), member.name
    assert {member.rate for member in members(LLAMA.build(0))} == {1.0}


def test_parts_of_a_larger_module_keep_the_rates_of_their_models():
    both = torch.nn.ModuleDict({"narrow": LLAMA.build(0), "wide": WIDE.build(0)})
    rates = {member.name: member.rate for member in members(both)}
    assert rates["wide.blocks.0.mixer.qkv.weight"] == 0.25
    assert rates["narrow.blocks.0.mixer.qkv.weight"] == 1.0


def settings(optimizer, model) -> dict[str, tuple[float, float]]:
    built, names = optimizer.build(model), {p: name for name, p in model.named_parameters()}
    return {names[p]: (g["lr"], g["weight_decay"]) for part in built.parts for g in part.param_groups for p in g["params"]}


@pytest.mark.parametrize(
    ("optimizer", "factor"),
    [(AdamW(learning_rate=0.01, weight_decay=0.1), 0.25), (Muon(learning_rate=0.01, weight_decay=0.1, others=AdamW(learning_rate=0.01)), 0.5)],
    ids=["adamw", "muon"],
)
def test_decay_goes_on_at_its_own_pace_whatever_the_rate(optimizer, factor):
    found = settings(optimizer, WIDE.build(0))
    assert found["blocks.0.mixer.qkv.weight"] == pytest.approx((0.01 * factor, 0.1 / factor))
    assert found["embedding.weight"][0] == found["head.weight"][0] == found["norm.weight"][0] == 0.01


@pytest.mark.parametrize(
    ("optimizer", "hidden", "others", "decay"),
    [
        (Sgd(learning_rate=0.01, weight_decay=0.1), 1.0, 4.0, 0.1), (Adam(learning_rate=0.01, weight_decay=0.1), 0.25, 1.0, 0.1),
        (Lion(learning_rate=0.01, weight_decay=0.1), 0.25, 1.0, 0.4), (Lamb(learning_rate=0.01, weight_decay=0.1), 0.5, 1.0, 0.1),
        (Lars(learning_rate=0.01, weight_decay=0.1, vector_rate=1.0), 0.5, 1.0, 0.1),
        (Adafactor(learning_rate=0.01, weight_decay=0.1), 0.5, 1.0, 0.2),
        (Adafactor(learning_rate=0.01, weight_decay=0.1, step_size="absolute"), 0.25, 1.0, 0.4),
    ],
    ids=str,
)  # fmt: skip
def test_rates_under_mup_go_by_how_updates_grow_with_the_width(optimizer, hidden, others, decay):
    found = settings(optimizer, WIDE.build(0))
    assert found["blocks.0.mixer.qkv.weight"] == pytest.approx((0.01 * hidden, decay))
    assert found["embedding.weight"][0] == found["head.weight"][0] == found["norm.weight"][0] == pytest.approx(0.01 * others)


@pytest.mark.parametrize("optimizer", [AdamW(), Muon()], ids=["adamw", "muon"])
def test_other_initialisations_have_one_group_per_role_as_ever(optimizer):
    built = optimizer.build(LLAMA.replace(init=NormalInit()).build(0))
    groups = [group for part in built.parts for group in part.param_groups]
    assert len(groups) == 4
    assert {group["lr"] for group in groups} == {3e-3}
    assert sorted(group["weight_decay"] for group in groups) == [0.0, 0.0, 0.1, 0.1]
