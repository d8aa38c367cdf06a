"""Sides that take turns, each turn in a process of its own: neither what one leaves in memory nor a slower machine favours one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any


def turns(module: str, sides: Sequence[str], rounds: int, arguments: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each side once a round, the first one last in every second round.

    Args:
        module: what `python -m` runs, with `--side SIDE` and the arguments; the last line that it prints is JSON.
        sides: their names.
        rounds: turns of each.
        arguments: of all.

    Yields:
        the side, and what its last line has.
    """
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            done = subprocess.run([sys.executable, "-m", module, "--side", side, *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{done.stderr[-3000:]}\n{side} died")
            yield side, json.loads(done.stdout.splitlines()[-1])
