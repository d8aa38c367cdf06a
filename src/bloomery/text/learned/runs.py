"""Counting more keys than memory holds: sorted runs on the disk, merged block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

MERGED_ROWS = 1 << 21  # looked at together


class Counted(NamedTuple):
    """Different keys, ascending, how often each was seen, and what it was seen with (the same thing each time)."""

    keys: np.ndarray
    counts: np.ndarray
    beside: np.ndarray


class Runs:
    """Counts of uint64 keys, as sorted runs in a folder.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._paths: list[Path] = []

    def add(self, keys: np.ndarray, beside: np.ndarray) -> None:
        """Counts some keys (any order, repetitions too), each with a number (int64) that goes with it."""
        unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
        path = self._folder / f"{len(self._paths):05d}.npy"
        np.save(path, np.stack([unique.view(np.int64), counts, beside[first]]), allow_pickle=False)
        self._paths.append(path)

    def merged(self) -> Iterator[Counted]:
        """All the keys, in ascending blocks."""
        runs = [np.load(path, mmap_mode="r", allow_pickle=False) for path in self._paths]
        keys = [run[0].view(np.uint64) for run in runs]
        at = [0] * len(runs)
        step = max(MERGED_ROWS // max(len(runs), 1), 1)
        while live := [i for i in range(len(runs)) if at[i] < len(keys[i])]:
            # up to here no run has more than a step to give, and what all give is complete
            bound = min(keys[i][min(at[i] + step, len(keys[i])) - 1] for i in live)
            ends = {i: int(np.searchsorted(keys[i], bound, side="right")) for i in live}
            block = np.concatenate([runs[i][:, at[i] : ends[i]] for i in live], axis=1)
            for i in live:
                at[i] = ends[i]
            order = np.argsort(block[0].view(np.uint64), kind="stable")
            block = block[:, order]
            first = np.flatnonzero(np.concatenate([[True], block[0][1:] != block[0][:-1]]))
            yield Counted(block[0][first].view(np.uint64), np.add.reduceat(block[1], first), block[2][first])
