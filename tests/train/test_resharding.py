"""A checkpoint goes on under any layout: the same tokens in the same order, the same losses; under its own, the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from bloomery.mesh import Layout
from bloomery.optim import Adafactor, AdamW, Muon, OptimizerConfig
from tests.mesh.ranks import on_ranks
from tests.train.resuming import SAVED, STEPS, go, go_all
from tests.train.toys import same

TWO = ["replicate=2", "shard=2,zero=1", "shard=2,zero=2", "shard=2", "tensor=2", "context=2", "pipeline=2"]
FOUR = ["shard=2,tensor=2", "pipeline=2,shard=2", "replicate=2,context=2"]
EIGHT = ["pipeline=2,shard=2,tensor=2", "replicate=2,shard=2,context=2"]
PAIRS = [
    ("", "replicate=2"), ("", "shard=2"), ("", "tensor=2"), ("replicate=2", ""), ("shard=2,zero=1", "tensor=2"),
    ("shard=2,zero=2", "pipeline=2"), ("shard=2", "context=2"), ("tensor=2", "shard=2"), ("context=2", ""), ("pipeline=2", "tensor=2"),
    ("", "shard=2,tensor=2"), ("tensor=2", "pipeline=2,shard=2"), ("shard=2,tensor=2", "pipeline=2"), ("shard=2,tensor=2", ""),
]  # fmt: skip
ADAMW, MUON, ADAFACTOR = AdamW(learning_rate=1e-2), Muon(learning_rate=1e-2), Adafactor(learning_rate=1e-2)


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


def run_all(runs: list[dict[str, Any]], timeout_s: float) -> list[dict[str, Any]]:
    """Runs, on as many ranks as each of them needs; those of one number of ranks in one go, which may take so long."""
    done: dict[int, dict[str, Any]] = {}
    for world in sorted({Layout.parse(run["layout"]).world for run in runs}):
        numbers = [i for i, run in enumerate(runs) if Layout.parse(run["layout"]).world == world]
        some = [runs[i] for i in numbers]
        found = go_all(some) if world == 1 else together(on_ranks(world, go_all, some, timeout_s=timeout_s))
        done |= dict(zip(numbers, found, strict=True))
    return [done[i] for i in range(len(runs))]


class Case(NamedTuple):
    """Saved under one layout, gone on from under another."""

    first: str
    then: str
    optimizer: OptimizerConfig = ADAMW

    def __str__(self) -> str:
        return f"{self.first or 'one rank'} → {self.then or 'one rank'}, {self.optimizer.kind()}"


def check(folder: Path, cases: list[Case], timeout_s: float = 280) -> None:
    """Every case, its losses and weights beside those of one rank that nobody interrupts."""
    wholes = {case.optimizer: go("", optimizer=case.optimizer) for case in cases}
    starts = list(dict.fromkeys((case.first, case.optimizer) for case in cases))
    places = {start: folder / f"saved-{number}" for number, start in enumerate(starts)}
    runs = run_all([{"layout": first, "saves": places[first, how], "optimizer": how} for first, how in starts], timeout_s)
    saved = dict(zip(starts, runs, strict=True))
    for place in places.values():  # the one in the middle is what is gone on from
        (place / f"step-{STEPS:08}").rename(place / "the last one")
    resumed = run_all([
        {"layout": case.then, "resumes": places[case.first, case.optimizer], "writes": folder / str(case), "optimizer": case.optimizer}
        for case in cases
    ], timeout_s)  # fmt: skip
    for case, run in zip(cases, resumed, strict=True):
        whole, before = wholes[case.optimizer], saved[case.first, case.optimizer]
        assert run["began"] == SAVED, case
        assert before["losses"] == pytest.approx(whole["losses"], abs=1e-5), case
        assert run["losses"] == pytest.approx({step: whole["losses"][step] for step in range(SAVED + 1, STEPS + 1)}, abs=1e-5), case
        assert {one for one in before["read"] if one[0] < SAVED} | run["read"] == whole["read"], case
        for what in ("weights", "average"):
            assert run[what].keys() == whole[what].keys(), case
            for name, value in whole[what].items():
                torch.testing.assert_close(run[what][name], value, rtol=0, atol=1e-4, msg=f"{case}: {what} {name}")
        written = load_file(folder / str(case) / "model.safetensors")
        assert same(written, run["average"]), case
        if case.first == case.then:
            assert run["losses"] == {step: before["losses"][step] for step in range(SAVED + 1, STEPS + 1)}, case
            assert same(run["weights"], before["weights"]), case
            assert same(run["average"], before["average"]), case
        else:
            assert f"which was written under {case.first or 'one rank'}" in run["said"][0], case


@pytest.mark.timeout(300)
def test_a_run_goes_on_under_another_layout(tmp_path: Path):
    others = [Case("shard=2", "tensor=2", ADAFACTOR), Case("tensor=2", "shard=2", MUON), Case("shard=2", "shard=2", ADAFACTOR)]
    check(tmp_path, [*(Case(*pair) for pair in PAIRS), *(Case(layout, layout) for layout in ["", *TWO, "shard=2,tensor=2"]), *others])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_goes_on_from_every_layout_under_every_other(tmp_path: Path):
    every = ["", *TWO, *FOUR, *EIGHT]
    check(tmp_path, [Case(first, then) for first in every for then in every], timeout_s=1700)
