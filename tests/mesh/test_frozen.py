"""Frozen parameters stay as they are under every layout, and what is trained beside them learns as on one rank."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout, Mesh
from bloomery.models import LlamaConfig
from bloomery.optim import Embeddings, Everything, LastLayers, Paths
from bloomery.train.spreading import fresh, spread_model
from tests.mesh.layouts import run_frozen
from tests.mesh.ranks import on_ranks
from tests.train.toys import VOCAB

LLAMA = LlamaConfig(vocab_size=VOCAB, d_model=16, n_layers=4, n_heads=4, d_ff=24, max_seq_len=16, tie_embeddings=False)
MIXED = LastLayers(count=2) - Paths(paths=("blocks.3.mixer", "norm"))  # whole blocks without gradients, and one of which some has none
LAYOUTS = ["replicate=2", "shard=2,zero=1", "shard=2,zero=3", "tensor=2", "context=2"]


@pytest.mark.timeout(300)
def test_no_layout_changes_what_a_partly_frozen_model_learns():
    start = dict(LLAMA.build(0).named_parameters())
    (alone,) = run_frozen([Layout()], LLAMA, MIXED)
    moved = {name for name, value in alone["weights"].items() if not torch.equal(value, start[name])}
    assert moved == alone["state"] == alone["gradients"]
    assert moved == {name for name in start if name.startswith(("blocks.2.", "blocks.3.ff", "blocks.3.mixer_norm", "head."))}
    by_rank = on_ranks(2, run_frozen, [Layout.parse(layout) for layout in LAYOUTS], LLAMA, MIXED, timeout_s=280)
    for layout, *ranks in zip(LAYOUTS, *by_rank, strict=True):
        for rank in ranks:
            assert rank["losses"] == pytest.approx(alone["losses"], rel=1e-5), layout
            assert rank["norms"] == pytest.approx(alone["norms"], rel=1e-4), layout
            assert rank["state"] == rank["gradients"] == moved, layout
            for name, value in alone["weights"].items():
                same = torch.allclose(rank["weights"][name], value, atol=1e-5) if name in moved else torch.equal(rank["weights"][name], value)
                assert same, f"{layout}: {name}"


def test_a_pipeline_whose_stages_would_train_nothing_is_refused():
    with pytest.raises(ConfigError, match="pipeline would have nothing to train under .*; take replicate and shard"):
        spread_model(LLAMA, Mesh(Layout(pipeline=2)), fresh(LLAMA, 0), Everything() - Embeddings())
