"""Clipping of gradients by their global norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.mesh.mesh import Axis


def clip_by_global_norm(
    gradients: Sequence[Tensor], max_norm: float | None, spoken: Sequence[Tensor] | None = None, ranks: Axis | None = None
) -> Float[Tensor, ""]:
    """Scales the gradients in place so that their joint Euclidean norm is at most `max_norm`: g ← g·min(1, c / ‖g‖).

    Args:
        gradients: all gradients of the step, each already summed and divided.
        max_norm: c > 0; None measures only.
        spoken: those of them that this rank speaks for, where ranks share a model; None is all.
        ranks: all ranks, over which the squares add up; None is this one alone.

    Returns:
        The norm before clipping, on the gradients' device.

    Source: Pascanu et al. (2013), arXiv 1211.5063 §3.2; exactly min(1, c/‖g‖), with no ε.
    """
    counted = gradients if spoken is None else spoken
    norms = torch._foreach_norm(list(counted)) if counted else [gradients[0].new_zeros(())]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if ranks is not None and ranks.size > 1:
        norm = ranks.sum_(norm.double().square()).sqrt().float()
    if max_norm is not None:
        torch._foreach_mul_(list(gradients), (max_norm / norm).clamp(max=1.0))
    return norm
