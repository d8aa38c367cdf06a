"""`Manner`: how steps are computed, which changes speed and memory, and no numbers but their rounding."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
"""What matrix products are computed in. Weights, optimiser state and sums are fp32 always; fp16 scales the loss, see `LossScale`."""


def autocast(precision: Precision, device: torch.device | str) -> AbstractContextManager[Any]:
    """What forward passes run under, for their precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16 if precision == "bf16" else torch.float16)


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
