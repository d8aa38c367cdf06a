"""`DoRA`: directions learn by low rank, and lengths by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters.lora import LoRA, LowRank
from bloomery.nn.adapters.shells import AdaptedLinear, Multiplies, Shell
from bloomery.nn.adapters.targets import Piece
from bloomery.nn.init import Draw


class DoRA(LoRA):
    """Each row of a matrix has a length m of its own, and the direction of W + (α/r)·B·A:

        y = m ⊙ (W + (α/r)·B·A)·x / ‖W + (α/r)·B·A‖,  where m starts at ‖W‖, by rows

    Source: Liu et al. (2024), arXiv 2402.09353, section 4.1; the norm is held constant in the backward pass, as in its section 4.3.
    """

    adds: ClassVar[bool] = False

    def change(self, shell: Shell, pieces: Sequence[Piece]) -> Directed:
        if not isinstance(shell, AdaptedLinear):
            raise ConfigError("DoRA changes linear maps, and no table of embeddings or head; take these out of targets")
        if len(shell.adapters):
            raise ConfigError("DoRA has the length of a matrix for itself, and another adapter is there already; attach it to other targets")
        return Directed(self.name, shell.weight.shape[1], pieces, len(shell.weight), self.rank, self.scale)


class Directed(LowRank):
    """See `DoRA`. Parameters: those of `LowRank`, and magnitude, (rows of all pieces)."""

    adds: ClassVar[bool] = False

    def __init__(self, by: str, columns: int, pieces: Sequence[Piece], rows: int, rank: int, scale: float) -> None:
        super().__init__(by, columns, pieces, rows, rank, scale)
        self.magnitude = nn.Parameter(torch.empty(sum(self.b.heights)))

    def initialise(self, draw: Draw) -> None:
        """As `LowRank`; the magnitude follows from the weight, see `begin`."""
        super().initialise(draw)

    def begin(self, weight: Float[Tensor, "rows columns"]) -> Mapping[str, Tensor]:
        norms = torch.linalg.vector_norm(weight.detach(), dim=1)
        return {"magnitude": torch.cat([norms[piece.rows.start : piece.rows.stop] for piece in self.pieces])}

    def forward(self, x: Float[Tensor, "*batch columns"], y: Float[Tensor, "*batch rows"], shell: Shell) -> Float[Tensor, "*batch rows"]:
        assert isinstance(shell, AdaptedLinear)
        own = dict(self.named_parameters())
        longer = self.longer(shell.base, own)
        bare = y if shell.bias is None else y - shell.bias
        return y + (longer - 1) * bare + longer * self.scale * self.product(x)

    def applied(self, x: Float[Tensor, "*batch columns"], shell: Multiplies) -> Float[Tensor, "*batch rows"]:
        return self(x, shell.multiplied(x), shell)

    def looked_up(self, tokens: Int[Tensor, "*batch"], y: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch columns"]:
        raise NotImplementedError("DoRA is not for tables")

    def merged(self, weight: Float[Tensor, "rows columns"], own: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        return self.longer(weight, own)[:, None] * super().merged(weight, own)

    def difference(self, own: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        raise NotImplementedError("DoRA is no sum with the weight")

    def longer(self, weight: Float[Tensor, "rows columns"], own: Mapping[str, Tensor]) -> Float[Tensor, " rows"]:
        """m / ‖W + (α/r)·B·A‖ by rows; 1 in those that are no piece's."""
        norm = torch.linalg.vector_norm(super().merged(weight, own).detach(), dim=1)
        ratio = own["magnitude"] / torch.cat([norm[piece.rows.start : piece.rows.stop] for piece in self.pieces])
        factors = self.spread([part - 1 for part in ratio.split(self.b.heights)], dim=0)
        return factors + 1
