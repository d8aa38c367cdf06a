"""Position encodings, and the values they are built from.

Those of a mixer (`PositionsConfig`) turn queries and keys, or add a bias to their scores; those of a model (`PlacesConfig`) are vectors
added to the embeddings.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.mesh.divide import PerHead
from bloomery.nn.layout import SequenceLayout, View
from bloomery.nn.part import Part
from bloomery.nn.rope import PartialRope, Rope, RopeScaling


class PositionsConfig(Part):
    """How a mixer tells places apart."""

    def rope(self, head_dim: int, max_seq_len: int) -> nn.Module:
        """What turns queries and keys: (x (batch, time, heads, head_dim), positions) → the same shape."""
        return Unturned()

    def bias(self, n_heads: int) -> ScoreBias | None:
        """What is added to the scores; None adds nothing."""
        return None

    def check_head(self, head_dim: int) -> str:
        """Why it doesn't work with heads of this width; empty where it does."""
        return ""


class NoPositionsConfig(PositionsConfig):
    """Places are not told apart but by causality.

    Source: Kazemnejad et al. (2023), arXiv 2305.19466.
    """


class RotaryConfig(PositionsConfig):
    """See `Rope`."""

    theta: Annotated[float, Gt(0)] = 10_000.0
    """Base of the wavelengths."""
    scaling: RopeScaling | None = None
    """How they are stretched over longer texts; None leaves them."""
    share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Part of the features of a head that are turned, the first ones; the others know no places."""

    def check(self) -> None:
        if self.scaling is not None and self.theta <= 1:
            raise self.refuse("theta", "gives no wavelengths of different lengths, which a scaling could stretch; 10000 is usual")

    def width(self, head_dim: int) -> int:
        """How many features of a head are turned."""
        return int(head_dim * self.share)

    def rope(self, head_dim: int, max_seq_len: int) -> nn.Module:
        rope = Rope(self.width(head_dim), max_seq_len, self.theta, self.scaling)
        return rope if self.share == 1.0 else PartialRope(rope)

    def check_head(self, head_dim: int) -> str:
        width = self.width(head_dim)
        if self.share == 1.0 and head_dim % 2:
            return f"is odd, and rotary positions turn pairs of features; {head_dim + 1} would do"
        if width % 2 or not width:
            even = max(2, width - width % 2)
            return f"times share={self.share} are {width} features, and rotary positions turn pairs of them; share={even / head_dim} would do"
        return "" if self.scaling is None else self.scaling.check_width(width)


class AlibiConfig(PositionsConfig):
    """See `Alibi`."""

    def bias(self, n_heads: int) -> Alibi:
        return Alibi(n_heads)


class Unturned(nn.Module):
    """Leaves queries and keys as they are."""

    def forward(
        self, x: Float[Tensor, "batch time heads head_dim"], positions: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time heads head_dim"]:
        return x


class ScoreBias(nn.Module, PerHead):
    """A number added to each score of a query and a key, by head and by how far they are apart."""

    @abstractmethod
    def forward(self, view: View) -> Float[Tensor, "#batch heads time past"]:
        """The bias for each pair of a view; what is not seen is masked elsewhere."""

    def deal_heads(self, index: int, ranks: int) -> None:
        self.register_forward_hook(lambda _, given, bias: bias.chunk(ranks, 1)[index])


class Alibi(ScoreBias):
    """A penalty that grows with distance, at another rate for each head:  −slope_h · |key − query|.

    The slopes are 2^(−8/n), 2^(−16/n), … for n heads; for n that is no power of 2, those of the power below, then every other one of the
    power above.

    Args:
        n_heads: query heads.

    Source: Press et al. (2021), arXiv 2108.12409, section 3 and footnote 10; both ways the distance counts by its size.
    """

    slopes: Tensor

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.register_buffer("slopes", self._slopes(None), persistent=False)

    def _slopes(self, device: torch.device | None) -> Tensor:
        power = 2 ** math.floor(math.log2(self.n_heads))
        first = [2 ** (-8 * (i + 1) / power) for i in range(power)]
        between = [2 ** (-4 * (i + 1) / power) for i in range(0, 2 * (self.n_heads - power), 2)]
        return torch.tensor(first + between, dtype=torch.float32, device=device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Alibi:
        """Follows the model to its device, computed afresh there."""
        self.slopes = self._slopes(fn(self.slopes).device)
        return self

    def forward(self, view: View) -> Float[Tensor, "#batch heads time past"]:
        return -self.slopes[:, None, None] * view.distances.abs()


class PlacesConfig(Part):
    """Vectors that tell a model's places apart, added to the embeddings."""

    @abstractmethod
    def build(self, d_model: int, max_seq_len: int) -> nn.Module:
        """The module: (x (batch, time, d_model), layout) → the same shape."""


class LearnedPlacesConfig(PlacesConfig):
    """See `LearnedPlaces`."""

    offset: Annotated[int, Ge(0)] = 0
    """Rows of the table before that of position 0, which some checkpoints have for padding."""

    def build(self, d_model: int, max_seq_len: int) -> nn.Module:
        return LearnedPlaces(d_model, max_seq_len, self.offset)


class SinusoidalPlacesConfig(PlacesConfig):
    """See `SinusoidalPlaces`."""

    def build(self, d_model: int, max_seq_len: int) -> nn.Module:
        return SinusoidalPlaces(d_model, max_seq_len)


class NoPlacesConfig(PlacesConfig):
    """Nothing is added."""

    def build(self, d_model: int, max_seq_len: int) -> nn.Module:
        return NoPlaces()


class NoPlaces(nn.Module):
    """Adds nothing."""

    def forward(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        return x


class LearnedPlaces(nn.Module):
    """A learnt vector per position:  x + table[position + offset].

    Source: Gehring et al. (2017), arXiv 1705.03122, section 3.1; as in GPT-2 and BERT.
    """

    def __init__(self, d_model: int, max_seq_len: int, offset: int) -> None:
        super().__init__()
        self.table = nn.Embedding(max_seq_len + offset, d_model)
        self.offset = offset

    def forward(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        return x + self.table(layout.positions + self.offset)


class SinusoidalPlaces(nn.Module):
    """A fixed vector per position:  x + (sin pω_i, cos pω_i), neighbouring features,  ω_i = 10000^(−2i / d_model).

    Source: Vaswani et al. (2017), arXiv 1706.03762, section 3.5.
    """

    table: Tensor

    def __init__(self, d_model: int, max_seq_len: int) -> None:
        super().__init__()
        self.shape = (max_seq_len, d_model)
        self.register_buffer("table", self._table(None), persistent=False)

    def _table(self, device: torch.device | None) -> Tensor:
        places, width = self.shape
        omega = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
        angle = torch.arange(places, dtype=torch.float32, device=device)[:, None] * omega
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :width]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SinusoidalPlaces:
        """Follows the model to its device, computed afresh there."""
        self.table = self._table(fn(self.table).device)
        return self

    def forward(self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        return x + self.table[layout.positions].type_as(x)
