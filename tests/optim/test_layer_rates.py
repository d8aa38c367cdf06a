"""Rates by layer: the figures of their formulas, on every optimiser, and the same course as torch's with groups made by hand."""

from __future__ import annotations

import math

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import BertConfig, LlamaConfig, T5Config, TaskConfig
from bloomery.models.heads import SequenceClassificationConfig
from bloomery.models.mup import mup
from bloomery.nn import MuPInit
from bloomery.optim import Adafactor, Adam, AdamW, CosineRates, EvenRates, Geometric, Lamb, Lars, Lion, Muon, Sgd
from bloomery.optim.groups import members

LLAMA = LlamaConfig(vocab_size=32, d_model=16, n_layers=3, n_heads=2, d_ff=24, max_seq_len=16, tie_embeddings=False)
EVERY = [Sgd(), Adam(), AdamW(), Lion(), Lamb(), Lars(), Adafactor(), Muon()]


def rates(optimizer, model) -> dict[str, tuple[float, float]]:
    built, names = optimizer.build(model), {p: name for name, p in model.named_parameters()}
    return {names[p]: (g["lr"], g["weight_decay"]) for part in built.parts for g in part.param_groups for p in g["params"]}


def test_geometric_rates_are_those_of_the_formula():
    found = {name: rate for name, (rate, _) in rates(AdamW(learning_rate=1e-3, layer_rates=Geometric(decay=0.5)), LLAMA.build(0)).items()}
    assert found["embedding.weight"] == pytest.approx(6.25e-5)
    assert [found[f"blocks.{i}.mixer.qkv.weight"] for i in range(3)] == pytest.approx([1.25e-4, 2.5e-4, 5e-4])
    assert [found[f"blocks.{i}.ff_norm.weight"] for i in range(3)] == pytest.approx([1.25e-4, 2.5e-4, 5e-4])
    assert found["norm.weight"] == found["head.weight"] == 1e-3


def test_cosine_rates_are_those_of_the_formula():
    shape = CosineRates(bottom=0.2)
    near = 0.4 * math.sqrt(0.5)
    assert [shape.factor(layer, 4) for layer in range(5)] == pytest.approx([0.2, 0.6 - near, 0.6, 0.6 + near, 1])
    found = rates(AdamW(learning_rate=1.0, layer_rates=shape), LLAMA.build(0))
    assert found["embedding.weight"][0] == pytest.approx(0.2)
    assert found["blocks.1.mixer.out.weight"][0] == pytest.approx(0.6)
    assert found["head.weight"][0] == 1.0


@pytest.mark.parametrize("optimizer", EVERY, ids=lambda one: one.kind())
def test_every_optimiser_has_the_factor_on_each_rate_and_on_no_decay(optimizer):
    wide = mup(LLAMA, MuPInit(base_width=8, base_head_dim=4))
    plain, layered = (rates(optimizer.replace(layer_rates=shape), wide.build(0)) for shape in (EvenRates(), Geometric(decay=0.5)))
    heights = {member.name: member.height for member in members(wide.build(0))}
    assert plain.keys() == layered.keys() == heights.keys()
    for name, (rate, decay) in plain.items():
        assert layered[name] == pytest.approx((rate * 0.5 ** (4 - heights[name].layer), decay)), name


@pytest.mark.parametrize("optimizer", EVERY, ids=lambda one: one.kind())
def test_a_decay_of_one_changes_no_bit(optimizer):
    def trained(shape):
        model = LLAMA.build(0)
        built, generator = optimizer.replace(layer_rates=shape).build(model), torch.Generator().manual_seed(1)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            built.step(0.5)
        return list(model.parameters())

    assert all(torch.equal(a, b) for a, b in zip(trained(EvenRates()), trained(Geometric(decay=1.0)), strict=True))


def test_the_course_is_that_of_torchs_adamw_with_groups_made_by_hand():
    ours, theirs = LLAMA.build(0), LLAMA.build(0)
    optimizer = AdamW(learning_rate=1e-2, weight_decay=0.1, layer_rates=Geometric(decay=0.8)).build(ours)
    groups = []
    for name, parameter in theirs.named_parameters():
        layer = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else 0 if name.startswith("embedding") else 4
        decay = 0.1 if parameter.ndim == 2 and not name.startswith("embedding") else 0.0
        groups.append({"params": [parameter], "lr": 1e-2 * 0.8 ** (4 - layer), "weight_decay": decay})
    reference, generator = torch.optim.AdamW(groups, betas=(0.9, 0.95)), torch.Generator().manual_seed(0)
    for _ in range(10):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        optimizer.step()
        reference.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_heads_of_tasks_stand_on_top_and_a_decoder_above_its_encoder():
    encoder = BertConfig(vocab_size=40, d_model=16, n_layers=2, n_heads=2)
    model = TaskConfig(base=encoder, heads=(SequenceClassificationConfig(name="mood", n_labels=3),)).build(0)
    layers = {member.name: member.height.layer for member in members(model)}
    assert layers["base.embedding_norm.weight"] == layers["base.parts.weight"] == 0
    assert layers["base.blocks.1.ff.up.bias"] == 2
    assert layers["heads.mood.pooling.dense.weight"] == layers["heads.mood.out.bias"] == 3
    pair = T5Config(vocab_size=40, d_model=16, n_layers=2, n_heads=2)
    layers = {member.name: member.height.layer for member in members(pair.build(0))}
    assert [layers[f"encoder.{i}.mixer.qkv.weight"] for i in range(2)] == [1, 2]
    assert [layers[f"blocks.{i}.mixer.qkv.weight"] for i in range(2)] == [3, 4]
    assert layers["encoder_norm.weight"] == 2
    assert layers["norm.weight"] == 5


def test_rates_of_layers_are_given_to_muon_and_not_to_its_companion():
    with pytest.raises(ConfigError, match="give them to Muon"):
        Muon(others=AdamW(layer_rates=Geometric()))
