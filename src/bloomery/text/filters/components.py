"""`Components`: which things belong together, when pairs are."""

from __future__ import annotations

import numpy as np


class Components:
    """Things numbered from 0, joined pair by pair; each component goes by its lowest number.

    Source: Tarjan (1975), doi:10.1145/321879.321884; departure: many pairs at once, so links go to the lower number and no ranks are kept.
    """

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size)

    def find(self, things: np.ndarray) -> np.ndarray:
        """The lowest number in the component of each."""
        roots = self._parent[things]
        while True:
            further = self._parent[roots]
            if np.array_equal(further, roots):
                break
            roots = further
        self._parent[things] = roots
        return roots

    def join(self, some: np.ndarray, others: np.ndarray) -> None:
        """Puts the components of the two things of each pair together."""
        while True:
            low, high = self.find(some), self.find(others)
            apart = low != high
            if not apart.any():
                return
            some, others, low, high = some[apart], others[apart], low[apart], high[apart]
            np.minimum.at(self._parent, np.maximum(low, high), np.minimum(low, high))
