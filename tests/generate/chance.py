"""Whether what was drawn is of a distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def chance(seen: Sequence[float], due: Sequence[float]) -> float:
    """How likely counts are to be at least so far from those that are due, by Pearson's χ²."""
    expected = torch.tensor(due, dtype=torch.float64)
    statistic = ((torch.tensor(seen, dtype=torch.float64) - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor(max(1, len(expected) - 1) / 2, dtype=torch.float64), statistic / 2))
