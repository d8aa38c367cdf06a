"""Topology is not part of the experiment: under every layout the same losses and the same weights as on one rank."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.mesh import Layout
from bloomery.models import AdaptedConfig, Gpt2Config, LlamaConfig, ModelConfig, TransformerConfig
from bloomery.nn import AlibiConfig, AttentionConfig, BatchNormConfig, ExpertsConfig, GatedConfig, Mamba2Config, UntiedConfig
from bloomery.nn.adapters import DoRA, LoRA
from tests.mesh.layouts import run, run_all
from tests.mesh.ranks import on_ranks
from tests.train.toys import VOCAB

SIZES: dict[str, Any] = {"vocab_size": VOCAB, "d_model": 16, "n_layers": 4, "max_seq_len": 16}
HEADS, FF = AttentionConfig(n_heads=4, n_kv_heads=4), GatedConfig(d_ff=24)
MODELS: dict[str, ModelConfig] = {
    "llama": LlamaConfig(n_heads=4, d_ff=24, **SIZES),
    "gpt2": Gpt2Config(n_heads=4, d_ff=24, **SIZES),
    "alibi": TransformerConfig(
        mixers=(AttentionConfig(n_heads=4, positions=AlibiConfig(), window=5),), feed_forwards=(FF,), head=UntiedConfig(), **SIZES
    ),
    "experts": TransformerConfig(mixers=(HEADS,), feed_forwards=(ExpertsConfig(n_experts=4, n_active=2, d_ff=8, n_shared=1), FF), **SIZES),
    "adapted": AdaptedConfig(
        base=LlamaConfig(n_heads=4, d_ff=24, **SIZES),
        adapter=LoRA(rank=3, targets=("query", "value", "ff", "head"), whole=("blocks.1.ff_norm",)),
    ),
    "directed": AdaptedConfig(base=LlamaConfig(n_heads=4, d_ff=24, **SIZES), adapter=DoRA(rank=2)),
    "hybrid": TransformerConfig(
        mixers=(Mamba2Config(d_state=8, head_dim=8, expand=2), HEADS), feed_forwards=(FF,), head=UntiedConfig(bias=True), **SIZES
    ),
}
FAST, SLOW = "fast", "slow"
CASES = {
    (2, FAST): [
        *(("llama", layout) for layout in (
            "replicate=2", "shard=2,zero=1", "shard=2,zero=3", "tensor=2", "context=2", "pipeline=2,schedule=interleaved,stages=2",
        )),
        ("adapted", "shard=2"), ("directed", "shard=2"), ("experts", "shard=2,expert=2"), ("hybrid", "context=2"),
    ],
    (4, FAST): [
        ("llama", "shard=2,tensor=2"), ("llama", "pipeline=2,shard=2"), ("llama", "pipeline=4"),
    ],
    (2, SLOW): [
        *(("llama", layout) for layout in ("shard=2,zero=2", "pipeline=2,schedule=gpipe", "pipeline=2")), ("gpt2", "tensor=2"),
        ("adapted", "pipeline=2"), ("alibi", "tensor=2"), ("experts", "tensor=2"),
        ("gpt2", "context=2"), ("gpt2", "shard=2"), ("gpt2", "pipeline=2"), ("adapted", "shard=2,zero=1"), ("adapted", "context=2"),
        ("alibi", "pipeline=2"), ("alibi", "context=2"), ("hybrid", "pipeline=2"), ("experts", "context=2,expert=2"),
        ("experts", "tensor=2,expert=2"), ("experts", "pipeline=2"), ("hybrid", "tensor=2"), ("hybrid", "shard=2"),
    ],
    (4, SLOW): [
        ("llama", "context=2,tensor=2"), ("experts", "replicate=2,shard=2,expert=2"),
        ("llama", "replicate=2,shard=2"), ("llama", "pipeline=2,tensor=2"), ("llama", "shard=2,context=2"),
        ("llama", "pipeline=2,replicate=2,schedule=gpipe"), ("llama", "pipeline=2,tensor=2,schedule=interleaved,stages=2"),
        ("experts", "shard=2,tensor=2,expert=4"), ("alibi", "context=2,tensor=2"), ("hybrid", "shard=2,context=2"),
    ],
    (8, SLOW): [
        ("llama", "pipeline=2,shard=2,tensor=2"), ("llama", "pipeline=2,context=2,tensor=2"), ("llama", "replicate=2,shard=2,context=2"),
        ("llama", "shard=8"), ("llama", "pipeline=2,context=2,tensor=2,schedule=interleaved,stages=2"),
        ("experts", "replicate=2,shard=2,context=2,expert=4"), ("gpt2", "pipeline=2,shard=2,tensor=2"),
    ],
}  # fmt: skip


@cache
def on_one(name: str) -> dict[str, Any]:
    return run(Layout(), MODELS[name])


WORLDS = [pytest.param(*key, marks=[pytest.mark.timeout(900)] + [pytest.mark.slow] * (key[1] == SLOW)) for key in CASES]


@pytest.mark.parametrize(("world", "pace"), WORLDS)
def test_no_layout_changes_losses_or_weights(world: int, pace: str) -> None:
    """One test for all layouts of a world: the processes are what takes time."""
    cases = CASES[world, pace]
    by_rank = on_ranks(world, run_all, [(Layout.parse(layout), MODELS[name]) for name, layout in cases], timeout_s=800)
    failures = [found for case, *ranks in zip(cases, *by_rank, strict=True) if (found := difference(case, ranks))]
    assert not failures, "\n".join(failures)


def difference(case: tuple[str, str], ranks: list[dict[str, Any]]) -> str:
    """What a layout made otherwise than one rank does; empty where it is the same."""
    alone = on_one(case[0])
    for rank in ranks:
        for what, tolerance in (("losses", 1e-5), ("norms", 1e-4)):
            worst = max(abs(a - b) / abs(b) for a, b in zip(rank[what], alone[what], strict=True))
            if not worst <= tolerance:
                return f"{case}: {what} differ by {worst:.1e}"
    weights = {name: value for rank in ranks for name, value in rank["weights"].items()}
    if weights.keys() != alone["weights"].keys():
        return f"{case}: {sorted(weights.keys() ^ alone['weights'].keys())} are there or not"
    worst, name = max(((weights[name] - value).abs().max().item(), name) for name, value in alone["weights"].items())
    return "" if worst <= 1e-5 else f"{case}: {name} differs by {worst:.1e}"


@pytest.mark.parametrize(("layout", "model", "what"), [
    (Layout(tensor=3), MODELS["llama"], "n_heads=4 and n_kv_heads=4, which tensor=3 ranks cannot share"),
    (Layout(tensor=5), TransformerConfig(mixers=(Mamba2Config(d_state=8, head_dim=8, expand=2),), feed_forwards=(FF,), **SIZES), "d_ff=24"),
    (Layout(context=2, tensor=4), MODELS["llama"], "context · tensor = 8 ranks"),
    (Layout(shard=3, expert=3), MODELS["experts"], "n_experts=4, which expert=3 ranks cannot share"),
    (Layout(pipeline=5), MODELS["llama"], "5 stages for n_layers=4; 4 are the most"),
    (Layout(tensor=2), MODELS["adapted"], "of which tensor ranks have parts"),
    (Layout(replicate=2), MODELS["llama"].transformer.replace(norm=BatchNormConfig()), "mixes the rows of a batch"),
])  # fmt: skip
def test_layouts_that_cannot_be_are_refused_with_their_numbers(layout, model, what):
    import torch

    from bloomery.mesh import Mesh
    from bloomery.mesh.spread import check
    from bloomery.train.spreading import check_layout

    with torch.device("meta"):
        skeleton = model.skeleton()
    with pytest.raises(ConfigError, match=what):
        mesh = Mesh(layout)
        check_layout(model, skeleton, mesh)
        check(skeleton, mesh)
