"""`Manner`: how steps are computed, which changes speed and memory, and no numbers but their rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16"]
"""What matrix products are computed in. Weights, optimiser state and sums are fp32 always."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How the steps are computed: speed and memory, not numbers.

    Attributes:
        micro_batch: rows per forward pass, ≥ 1.
        compiled: whether forward and backward go through torch.compile.
        device: where.
    """

    micro_batch: int
    compiled: bool = False
    device: str = "cpu"
