"""Filters for the contracts that need something to be made: by class name, a function that gives one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bloomery.text.filters import Filter


class Examples(dict[str, Callable[[], Filter]]):
    """How to make filters with required fields, and where the artifacts of the stages among their fields lie."""

    def folder_of(self, stage: Any) -> Path:
        raise AssertionError(f"{stage} has no example artifact; put one here")


EXAMPLES = Examples()
