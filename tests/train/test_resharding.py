"""A checkpoint goes on under any layout: the same tokens in the same order, the same losses; under its own, the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.mesh.ranks import on_ranks
from tests.train.resuming import SAVED, STEPS, go, go_all

TWO = ["replicate=2", "shard=2,zero=1", "shard=2,zero=2", "shard=2", "tensor=2", "context=2", "pipeline=2"]
FOUR = ["shard=2,tensor=2", "pipeline=2,shard=2", "replicate=2,context=2"]
EIGHT = ["pipeline=2,shard=2,tensor=2", "replicate=2,shard=2,context=2"]
PAIRS = [
    ("", "replicate=2"), ("", "shard=2"), ("", "tensor=2"), ("replicate=2", ""), ("shard=2,zero=1", "tensor=2"),
    ("shard=2,zero=2", "pipeline=2"), ("shard=2", "context=2"), ("tensor=2", "shard=2"), ("context=2", ""), ("pipeline=2", "tensor=2"),
    ("", "shard=2,tensor=2"), ("tensor=2", "pipeline=2,shard=2"), ("shard=2,tensor=2", "pipeline=2"), ("shard=2,tensor=2", ""),
]  # fmt: skip


def together(by_rank: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of each run, what its ranks had together; what several have must be the same."""
    runs = []
    for ranks in zip(*by_rank, strict=True):
        first = ranks[0]
        for rank in ranks:
            assert rank["losses"] == first["losses"]
        runs.append({
            **first, "read": set().union(*(rank["read"] for rank in ranks)),
            **{what: {k: v for rank in ranks for k, v in rank[what].items()} for what in ("weights", "average")},
        })  # fmt: skip
    return runs


def world_of(layout: str) -> int:
    from bloomery.mesh import Layout

    return Layout.parse(layout).world


def run_all(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs, on as many ranks as each of them needs; those of one number of ranks in one go."""
    done: dict[int, dict[str, Any]] = {}
    for world in sorted({world_of(run["layout"]) for run in runs}):
        numbers = [i for i, run in enumerate(runs) if world_of(run["layout"]) == world]
        some = [runs[i] for i in numbers]
        found = go_all(some) if world == 1 else together(on_ranks(world, go_all, some, timeout_s=280))
        done |= dict(zip(numbers, found, strict=True))
    return [done[i] for i in range(len(runs))]


def check(folder: Path, pairs: list[tuple[str, str]]) -> None:
    """Saves under the first layout of each pair, goes on under the second."""
    whole = go("")
    layouts = list(dict.fromkeys(first for first, _ in pairs))
    saved = dict(zip(layouts, run_all([{"layout": one, "saves": folder / (one or "one")} for one in layouts]), strict=True))
    for first in layouts:
        newest = folder / (first or "one") / f"step-{STEPS:08}"
        newest.rename(newest.with_name("x" + newest.name))  # the one in the middle is what is gone on from
    resumed = run_all([
        {"layout": then, "resumes": folder / (first or "one"), "writes": folder / f"{first}→{then}"} for first, then in pairs
    ])  # fmt: skip
    for (first, then), run in zip(pairs, resumed, strict=True):
        case = f"{first or 'one rank'} → {then or 'one rank'}"
        assert run["began"] == SAVED, case
        before, undisturbed = saved[first], saved[first]["losses"]
        assert {step: before["losses"][step] for step in range(1, STEPS + 1)} == pytest.approx(whole["losses"], abs=1e-5), case
        assert run["losses"] == pytest.approx({step: whole["losses"][step] for step in range(SAVED + 1, STEPS + 1)}, abs=1e-5), case
        read_before = {one for one in before["read"] if one[0] < SAVED}
        assert sorted(read_before | run["read"]) == sorted(whole["read"]), case
        for what in ("weights", "average"):
            assert run[what].keys() == whole[what].keys(), case
            for name, value in whole[what].items():
                torch.testing.assert_close(run[what][name], value, rtol=0, atol=2e-5, msg=f"{case}: {what} {name}")
                if first == then:
                    assert torch.equal(run[what][name], before[what][name]), f"{case}: {what} {name}"
        written = load_file(folder / f"{first}→{then}" / "model.safetensors")
        assert written.keys() == run["average"].keys()
        assert all(torch.equal(value, run["average"][name]) for name, value in written.items()), case
        if first == then:
            assert run["losses"] == {step: undisturbed[step] for step in range(SAVED + 1, STEPS + 1)}, case
        elif first != then:
            assert f"which was written under {first or 'one rank'}" in run["said"][0], case


@pytest.mark.timeout(300)
def test_a_run_goes_on_under_another_layout(tmp_path: Path):
    check(tmp_path, [*PAIRS, *((layout, layout) for layout in ["", *TWO, "shard=2,tensor=2"])])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_goes_on_from_every_layout_under_every_other(tmp_path: Path):
    check(tmp_path, [(first, then) for first in ["", *TWO, *FOUR, *EIGHT] for then in ["", *TWO, *FOUR, *EIGHT]])
