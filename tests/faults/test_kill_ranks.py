"""kill -9 of a rank, or of all, at any moment: nothing acknowledged is lost, and the run ends in the bits of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.lives import survive


@pytest.mark.timeout(300)
def test_four_kills_of_two_ranks_lose_nothing(tmp_path: Path):
    print(survive(tmp_path, "shard=2", kills=4, seed=1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("layout", ["", "shard=2"], ids=["one rank", "two ranks"])
def test_fifty_kills_lose_nothing(tmp_path: Path, layout: str):
    print(survive(tmp_path, layout, kills=50, seed=2))
