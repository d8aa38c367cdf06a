"""What a model has not for its first choice is the same on all ranks, whatever each has of the rows and of the model."""

from __future__ import annotations

import torch

from bloomery.data.batch import Batch
from bloomery.mesh import ALONE, Layout, Mesh
from bloomery.models import AdaptedConfig, ModelConfig
from bloomery.nn.adapters import LoRA
from bloomery.train.spreading import fresh, spread_model
from bloomery.train.suites import missed_in
from tests.mesh.ranks import on_ranks
from tests.train.toys import TIME, TINY, Uneven

ADAPTED = AdaptedConfig(base=TINY, adapter=LoRA(rank=2))
CASES: list[tuple[ModelConfig, str]] = [
    (TINY, "context=2"), (TINY, "tensor=2"), (TINY, "pipeline=2"), (TINY, "shard=2"),
    (ADAPTED, "pipeline=2"), (ADAPTED, "context=2"),
]  # fmt: skip


def asked(config: ModelConfig) -> tuple[Batch, torch.Tensor]:
    """Rows of which half of the targets are what the model would say, and where they are not."""
    batch = Uneven().batch(0, 8)
    said = config.build(seed=0).eval()(batch.tokens, batch.layout).argmax(-1)
    other = torch.rand(said.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    targets = torch.where(other, (said + 1) % TINY.vocab_size, said)
    return Batch(batch.tokens, targets, batch.loss_weight, batch.layout, batch.first_row), other & (batch.loss_weight > 0)


def missed(config: ModelConfig, layout: str) -> torch.Tensor:
    mesh = Mesh.join(Layout.parse(layout))
    with torch.no_grad():
        return missed_in(spread_model(config, mesh, fresh(config, seed=0)).model.eval(), asked(config)[0], mesh)


def all_cases(cases: list[tuple[ModelConfig, str]]) -> list[torch.Tensor]:
    return [missed(config, layout) for config, layout in cases]


def test_on_one_rank_it_is_what_the_model_would_not_say():
    batch, wrong = asked(TINY)
    assert wrong.any()
    assert (batch.loss_weight[~wrong] > 0).any()
    assert torch.equal(missed_in(TINY.build(seed=0).eval(), batch, ALONE), wrong)
    assert wrong.shape == (8, TIME)


def test_on_two_ranks_both_know_all_of_it():
    for (config, layout), *ranks in zip(CASES, *on_ranks(2, all_cases, CASES), strict=True):
        assert all(torch.equal(one, asked(config)[1]) for one in ranks), layout
