"""A base in few bits over the ranks of ZeRO: each has rows of the codes and their scales, and all is as on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery.mesh import Layout, Mesh
from bloomery.models import AdaptedConfig, LlamaConfig, write_held_model
from bloomery.nn.adapters import Int8, Nf4, QLoRA
from bloomery.train.spreading import fresh, spread_model
from tests.mesh.layouts import run
from tests.mesh.ranks import on_ranks
from tests.mesh.test_layouts import SIZES

BASE = LlamaConfig(n_heads=4, d_ff=24, **SIZES)
CONFIGS = {
    "nf4": AdaptedConfig(base=BASE, adapter=QLoRA(rank=2, bits=Nf4(block=8))),
    "int8": AdaptedConfig(base=BASE, adapter=QLoRA(rank=3, bits=Int8(block=4), targets=("query", "ff"))),
}
CASES = [("nf4", "shard=2,zero=1"), ("nf4", "shard=2,zero=3"), ("int8", "shard=2,zero=2"), ("int8", "shard=2,zero=3")]


def some(layout: str, name: str, folder: Path) -> dict[str, Any]:
    """A few steps, and the bytes of the files that fresh weights come to, with the adapter merged into them."""
    config, mesh = CONFIGS[name], Mesh.join(Layout.parse(layout))
    write_held_model(folder, config, spread_model(config, mesh, fresh(config, seed=0)).holding)
    files = [path.read_bytes() for path in sorted(folder.iterdir())] if mesh.leads else []
    return run(mesh.layout, config, steps=6) | {"files": files}


def all_cases(folder: Path) -> list[dict[str, Any]]:
    return [some(layout, name, folder / str(number)) for number, (name, layout) in enumerate(CASES)]


def test_ranks_that_share_a_quantised_base_do_as_one_does(tmp_path):
    alone = {name: some("", name, tmp_path / name) for name in CONFIGS}
    for case, ranks in zip(CASES, zip(*on_ranks(2, all_cases, tmp_path), strict=True), strict=True):
        whole = alone[case[0]]
        assert ranks[0]["files"] == whole["files"], case
        for rank in ranks:
            for what in ("losses", "norms"):
                assert max(abs(a - b) / abs(b) for a, b in zip(rank[what], whole[what], strict=True)) < 1e-5, (case, what)
            assert all((rank["weights"][name].float() - value.float()).abs().max() < 1e-5 for name, value in whole["weights"].items()), case
