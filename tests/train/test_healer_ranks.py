"""Ranks that share a run heal it as one rank alone does: the same decisions, the same documents, the same weights."""

import pytest
import torch

from bloomery.mesh import Layout
from tests.mesh.ranks import on_ranks
from tests.train.faults import everything_at_once, under_all


def test_all_ranks_decide_alike_and_as_one_alone():
    alone = everything_at_once(Layout())
    assert {rung for _, rung, _ in alone["events"]} == {"skip", "lower", "roll back"}
    assert {cause for _, _, cause in alone["events"]} >= {"not finite", "update", "loss"}
    assert alone["blamed"]
    for rank in on_ranks(2, under_all, [Layout(replicate=2), Layout(shard=2)]):
        for found in rank:
            for name in ("events", "blamed", "jumps"):
                assert found[name] == alone[name], name
            assert [loss for _, loss in found["losses"]] == pytest.approx([loss for _, loss in alone["losses"]], rel=1e-4, nan_ok=True)
            for name, whole in alone["weights"].items():
                torch.testing.assert_close(found["weights"][name], whole, rtol=1e-4, atol=1e-5)
