"""Shared by all tests: shape checks on, and where real data is."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.shapes import check_shapes

# Shapes on public tensor boundaries are checked in tests only.
check_shapes([f"bloomery.{room}" for room in ("nn", "models", "data", "objectives", "generate", "optim")])

# How long an example takes depends on what else the machine does; and what one run has passed, the next should not fail by chance.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test skips where there is none."""
    folder = os.environ.get("BLOOMERY_DATA")
    if not folder:
        pytest.skip("needs real data: set BLOOMERY_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory) -> str:
    """A store that tests share, so that their inputs are made once."""
    return str(tmp_path_factory.mktemp("store"))
