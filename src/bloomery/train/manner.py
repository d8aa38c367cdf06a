"""`Manner`: how steps are computed, which changes speed and memory, and no numbers but their rounding."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from bloomery.nn.float8 import check_float8, use_float8

Precision = Literal["fp32", "bf16", "fp16", "fp8"]
"""What matrix products are computed in. Weights, optimiser state and sums are fp32 always; fp16 scales the loss, see `LossScale`; fp8 is
for the linear layers, see `nn.float8`, and all else is in bf16 then."""


def autocast(precision: Precision, device: torch.device | str) -> AbstractContextManager[Any]:
    """What forward passes run under, for their precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.float16 if precision == "fp16" else torch.bfloat16)


def compute_in(model: nn.Module, precision: Precision, device: torch.device | str) -> None:
    """Has a model compute in a precision, as far as that is not what `autocast` does.

    Raises:
        ConfigError: the device has no units for it.
    """
    if precision == "fp8":
        check_float8(device)
        use_float8(model)


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
