"""`LoRA`: what a matrix learns is a product of two thin ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.nn.adapters.adapter import Adapter
from bloomery.nn.adapters.shells import AdaptedEmbedding, Change, Multiplies, Shell, shell_of
from bloomery.nn.adapters.targets import Piece, chosen
from bloomery.nn.adapters.thin import Thin, thin_linear
from bloomery.nn.init import Draw
from bloomery.nn.linear import Linear, Use


class LoRA(Adapter):
    """Low-rank changes of matrices:  y = W·x + (α/r)·B·A·x,  where B starts at 0.

    A target is a run of words of a canonical path: "mixer" is every matrix in a mixer, "blocks.3" all of that layer's, "ff.down" one of each
    feed-forward layer, "head" the way to the vocabulary. Behind the path of a matrix that is several in one comes what each is for, so that
    "query", "value" or "mixer.qkv.value" name one of them: "query", "key", "value", "mixer_out", "ff_in" (the gate, where there is one),
    "ff_up", "ff_out", "embedding". An embedding to which the head is tied is "head", too: what changes one changes the other.

    Source: Hu et al. (2021), arXiv 2106.09685, section 4. Departures: every matrix of mixers and feed-forward layers unless told otherwise,
    as Dettmers et al. (2023), arXiv 2305.14314, section 4, found to matter; no dropout.
    """

    merges: ClassVar[bool] = True
    adds: ClassVar[bool] = True
    parts_of_rows: ClassVar[bool] = True

    rank: Annotated[int, Gt(0)] = 8
    """r: rows of A, columns of B."""
    alpha: Annotated[float, Gt(0)] = 16.0
    """α: the change is multiplied by α/r."""
    targets: tuple[str, ...] = Field(default=("mixer", "ff"), min_length=1)
    """Which matrices it changes, by words of their canonical paths."""

    @property
    def scale(self) -> float:
        """The factor on B·A."""
        return self.alpha / self.rank

    @property
    def picks_layers(self) -> bool:
        return any("blocks" in target.split(".") for target in self.targets)

    def add(self, model: nn.Module) -> None:
        for path, pieces in chosen(model, self.targets).items():
            shell = shell_of(model, path)
            shell.adapters[self.name] = self.change(shell, pieces)

    def change(self, shell: Shell, pieces: Sequence[Piece]) -> LowRank:
        """What it adds to a matrix."""
        table = isinstance(shell, AdaptedEmbedding)
        return LowRank(self.name, shell.shape[1], pieces, shell.shape[0], self.rank, self.scale, table)


class LowRank(Change):
    """(α/r)·B·A for each of some pieces of a matrix, which have an A and a B of their own.

    Parameters: a.weight, the pieces' A one above the other; b.weight, their B one above the other.

    Args:
        by: the adapter's name.
        columns: of the matrix.
        pieces: which of its rows are changed.
        rows: of the matrix, all of them.
        rank: rows of an A.
        scale: α/r.
        table: whether the rows are looked up and not multiplied with.
    """

    merges: ClassVar[bool] = True
    adds: ClassVar[bool] = True

    def __init__(
        self, by: str, columns: int, pieces: Sequence[Piece], rows: int, rank: int, scale: float, table: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(by)
        uses = tuple(Use.OTHER if piece.use is None else piece.use for piece in pieces)
        self.a = Linear(columns, (rank,) * len(pieces), (Use.OTHER,) * len(pieces))
        self.b = Linear(rank, tuple(len(piece.rows) for piece in pieces), uses)
        self.pieces, self.rows, self.rank, self.scale, self.table = tuple(pieces), rows, rank, scale, table
        self.thin = Thin(tuple((piece.rows.start, piece.rows.stop) for piece in pieces), rank, scale)

    def initialise(self, draw: Draw) -> None:
        """B is 0. A is uniform within ±1/√columns, and for tables normal."""
        if self.table:
            draw.normal(self.a.weight, 1.0)
        else:
            bound = 1 / sqrt(self.a.in_features)
            draw.copy(self.a.weight, draw.uniform(self.a.weight, -bound, bound))
        draw.fill(self.b.weight, 0.0)

    def forward(self, x: Float[Tensor, "*batch columns"], y: Float[Tensor, "*batch rows"], shell: Shell) -> Float[Tensor, "*batch rows"]:
        return torch.add(y, self.product(x), alpha=self.scale)

    def applied(self, x: Float[Tensor, "*batch columns"], shell: Multiplies) -> Float[Tensor, "*batch rows"]:
        if shell.product is not F.linear or any(one.requires_grad for one in shell.kept):
            return super().applied(x, shell)
        return thin_linear(x, shell.make, shell.kept, shell.bias, self.a.weight, self.b.weight, self.thin)

    def product(self, x: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch rows"]:
        """B·A·x; 0 in rows that are no piece's."""
        inner = self.a(x).split(self.rank, dim=-1)
        outer = [F.linear(h, b) for h, b in zip(inner, self.b.weight.split(self.b.heights), strict=True)]
        return self.spread(outer, dim=-1)

    def looked_up(self, tokens: Int[Tensor, "*batch"], y: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch columns"]:
        found = F.embedding(tokens.clamp(max=self.rows - 1), self.b.weight) @ self.a.weight
        found = found.masked_fill((tokens >= self.rows)[..., None], 0.0)  # virtual tokens are no rows of the table
        return torch.add(y, found, alpha=self.scale)

    def merged(self, weight: Float[Tensor, "rows columns"], own: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        return torch.add(weight, self.together(own), alpha=self.scale)

    def difference(self, own: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        return self.scale * self.together(own)

    def together(self, own: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        """B·A."""
        a, b = own["a.weight"].split(self.rank), own["b.weight"].split(self.b.heights)
        return self.spread([right @ left for left, right in zip(a, b, strict=True)], dim=0)

    def spread(self, of_pieces: Sequence[Tensor], dim: int) -> Tensor:
        """What there is for each piece at its place, and 0 between."""
        if len(of_pieces) == 1 and len(self.pieces[0].rows) == self.rows:
            return of_pieces[0]
        parts, end = [], 0
        like = of_pieces[0]
        for piece, values in zip(self.pieces, of_pieces, strict=True):
            if piece.rows.start > end:
                parts.append(gap(like, piece.rows.start - end, dim))
            parts.append(values)
            end = piece.rows.stop
        if end < self.rows:
            parts.append(gap(like, self.rows - end, dim))
        return torch.cat(parts, dim)


def gap(like: Tensor, length: int, dim: int) -> Tensor:
    """Zeros that are shaped like something, but for one dimension."""
    shape = list(like.shape)
    shape[dim] = length
    return like.new_zeros(shape)
