"""Optimisers against torch, Muon's property, clipping, averaging, state by name."""

import math

import pytest
import torch
from torch import nn

from bloomery.core.errors import ArtifactError
from bloomery.models import LlamaConfig
from bloomery.optim import AdamW, Average, Muon, clip_by_global_norm
from bloomery.optim.groups import Role, members
from bloomery.optim.muon import orthogonalise

TINY = LlamaConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=24, max_seq_len=16)


def give_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_adamw_trajectory_equals_torchs():
    ours, theirs = TINY.build(seed=0), TINY.build(seed=0)
    optimizer = AdamW(learning_rate=1e-2, embedding_rate=0.5, weight_decay=0.3).build(ours)
    matrices = [p for n, p in theirs.named_parameters() if p.ndim == 2 and n != "embedding.weight"]
    vectors = [p for p in theirs.parameters() if p.ndim == 1]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0},
         {"params": [theirs.embedding.weight], "weight_decay": 0.0, "lr": 5e-3}], lr=1e-2, betas=(0.9, 0.95), fused=False,
    )
    rates = [group["lr"] for group in reference.param_groups]
    for step in range(20):
        for model in (ours, theirs):
            give_gradients(model, step)
        for group, rate in zip(reference.param_groups, rates, strict=True):
            group["lr"] = rate * (step + 1) / 20
        optimizer.step((step + 1) / 20)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_roles_follow_the_structure():
    roles = {m.name: m.role for m in members(TINY.replace(tie_embeddings=False).build(seed=0))}
    assert roles["head.weight"] is Role.HEAD
    assert roles["embedding.weight"] is Role.EMBEDDING
    assert roles["norm.weight"] is roles["blocks.0.ff_norm.weight"] is Role.VECTOR
    assert roles["blocks.1.mixer.out.weight"] is Role.MATRIX
    assert "head.weight" not in {m.name for m in members(TINY.build(seed=0))}


def test_orthogonalise_brings_singular_values_near_one_and_keeps_vectors():
    for shape in ((3, 12, 20), (2, 20, 12)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        values = torch.linalg.svdvals(orthogonalise(matrix, 8))
        assert values.min() > 0.6
        assert values.max() < 1.3
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        core = u.mT @ orthogonalise(matrix, 8) @ v.mT
        torch.testing.assert_close(core, torch.diag_embed(core.diagonal(dim1=-2, dim2=-1)), atol=1e-4, rtol=0)


def test_muon_orthogonalises_each_block_of_a_fused_matrix():
    model = TINY.build(seed=0)
    before = model.blocks[0].mixer.qkv.weight.detach().clone()
    optimizer = Muon(learning_rate=1.0, weight_decay=0.0, momentum=0.0, iterations=8).build(model)
    give_gradients(model, 0)
    optimizer.step()
    moved = (before - model.blocks[0].mixer.qkv.weight.detach()).split((16, 8, 8))
    for block, longest in zip(moved, (16, 16, 16), strict=True):
        values = torch.linalg.svdvals(block) / (0.2 * math.sqrt(longest))
        assert values.max() < 1.3
        assert values[:-2].min() > 0.5  # a random square matrix may have a tiny singular value or two


def test_rates_are_told_by_what_a_parameter_is():
    optimizer = Muon(learning_rate=0.5, others=AdamW(learning_rate=0.25, embedding_rate=3.0)).build(TINY.build(seed=0))
    optimizer.step(0.1)
    assert optimizer.rates == pytest.approx({"matrix": 0.05, "vector": 0.025, "embedding": 0.075})


def test_clipping_scales_to_the_norm_and_no_further():
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert clip_by_global_norm(gradients, 10.0).item() == pytest.approx(5.0)
    assert gradients[1].item() == 4.0
    assert clip_by_global_norm(gradients, 1.0).item() == pytest.approx(5.0)
    torch.testing.assert_close(gradients[0], torch.tensor([0.6, 0.0]))


def test_average_is_its_closed_form_and_leaves_the_model_as_it_was():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(dict(model.named_parameters()), 0.15)
    expected = 0.0
    for k in range(6):
        nn.init.constant_(model.weight, float(k))
        average.update()
        decay = min(0.15, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * k
    assert average.values["weight"].item() == pytest.approx(expected)
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 5.0


def test_state_of_another_model_is_refused():
    optimizer = AdamW().build(nn.Linear(2, 2))
    with pytest.raises(ArtifactError, match=r"other\.weight"):
        optimizer.load({"other.weight|exp_avg": torch.zeros(2, 2)})


def test_a_state_from_a_file_goes_to_where_the_parameters_are():
    here, there = nn.Linear(2, 2), nn.Linear(2, 2, device="meta")
    optimizer, elsewhere = AdamW().build(here), AdamW().build(there)
    give_gradients(here, 0)
    optimizer.step()
    elsewhere.load(optimizer.state())
    assert {slot.device.type for slot in elsewhere.state().values()} == {"meta"}
