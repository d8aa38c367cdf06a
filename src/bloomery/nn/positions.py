"""Position encodings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Rope(nn.Module):
    """Rotary position embedding: turns pairs of features by an angle that grows with the position.

        (x₁, x₂) → (x₁ cos pω − x₂ sin pω, x₂ cos pω + x₁ sin pω),   ω_i = theta^(−2i / head_dim)

    so that the product of a query and a key depends on the distance of their positions alone. The tables are float32 whatever the model
    is cast to, since half precision cannot hold a large angle.

    Args:
        head_dim: features per head, even.
        max_seq_len: positions run from 0 to max_seq_len − 1.
        theta: the base of the wavelengths, > 0.

    Source: Su et al. (2021), arXiv 2104.09864, section 3.4. Departure: feature i is paired with feature i + head_dim/2 (the "rotate half"
    convention of published Llama checkpoints), not with its neighbour; and the angles are rounded to float32 as those models round them.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, max_seq_len: int, theta: float) -> None:
        super().__init__()
        self.head_dim, self.max_seq_len, self.theta = head_dim, max_seq_len, theta
        for name, table in zip(("cos", "sin"), self._tables(None), strict=True):
            self.register_buffer(name, table, persistent=False)

    def _tables(self, device: torch.device | None) -> tuple[Tensor, Tensor]:
        """cos and sin, each (max_seq_len, 1, head_dim / 2)."""
        exponent = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device) / self.head_dim
        omega = 1.0 / self.theta**exponent
        angle = torch.arange(self.max_seq_len, dtype=torch.float32, device=device)[:, None, None] * omega
        return angle.cos(), angle.sin()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rope:
        """Follows the model to its device (also from "meta"), but is computed afresh there rather than moved or cast."""
        device = fn(self.cos).device
        self.cos, self.sin = self._tables(device)
        return self

    def forward(
        self, x: Float[Tensor, "batch time heads head_dim"], positions: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time heads head_dim"]:
        cos, sin = self.cos[positions], self.sin[positions]  # (batch, time, 1, head_dim / 2)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).type_as(x)
