"""Feed-forward layers: what happens at each place by itself."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """The gated feed-forward layer of Llama.

        y = W_down · (silu(W_gate · x) ⊙ W_up · x)

    Gate and up share one matrix, gate first, so that both are one product.

    Args:
        d_model: width of input and output.
        d_ff: width of the hidden layer.

    Source: Shazeer (2020), arXiv 2002.05202, equation 6.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)
