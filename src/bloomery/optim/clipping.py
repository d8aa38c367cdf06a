"""Clipping of gradients by their global norm."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def clip_by_global_norm(gradients: list[Tensor], max_norm: float | None) -> Float[Tensor, ""]:
    """Scales the gradients in place so that their joint Euclidean norm is at most `max_norm`: g ← g·min(1, c / ‖g‖).

    Args:
        gradients: all gradients of the step, each already summed and divided.
        max_norm: c > 0; None measures only.

    Returns:
        The norm before clipping, on the gradients' device.

    Source: Pascanu et al. (2013), arXiv 1211.5063 §3.2; exactly min(1, c/‖g‖), with no ε.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if max_norm is not None:
        torch._foreach_mul_(gradients, (max_norm / norm).clamp(max=1.0))
    return norm
