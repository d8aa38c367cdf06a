"""Products that autograd does not look at, within the passes of a `torch.autograd.Function`, by whichever library is the faster.

torch gives matrix products in float32 on a CPU to the BLAS that it is built with. oneDNN, which it has for convolutions and compiled graphs,
takes the tall and narrow ones of a training step some 10 % faster on the processor on which it was measured (docs/log.md).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_OPERATIONS = 1 << 25  # below, what a call costs is more than what is won
ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""What compiled graphs call; None where torch was built without it."""
PLAIN = (Tensor, nn.Parameter)  # no wrapper that would have the call for itself


def product(
    x: Float[Tensor, "*batch d_in"], matrix: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """W·x + b, without a gradient. Either library rounds in an order of its own.

    Args:
        x: what is multiplied.
        matrix: W; a transposed view is as good.
        bias: b, or None.
    """
    if ONEDNN is None or not onednn_takes(x, matrix):
        return F.linear(x, matrix, bias)
    return ONEDNN(x, matrix, bias, "none", [], "")  # type: ignore[no-any-return]


def onednn_takes(x: Tensor, matrix: Tensor) -> bool:
    """Whether a product is one of those that oneDNN is faster at, and may have."""
    here = x.device.type == "cpu" and x.dtype == matrix.dtype == torch.float32 and type(x) in PLAIN and type(matrix) in PLAIN
    enough = 2 * x.numel() * matrix.shape[0] >= LEAST_OPERATIONS
    return here and enough and not torch.compiler.is_compiling() and bool(torch.backends.mkldnn.enabled)
