"""Attention to neighbours only, chunk by chunk: no square of time × time is ever made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from bloomery.nn.layout import SequenceLayout, View

OUTSIDE = -1  # segment number of what is added around a row


@dataclass(frozen=True)
class Chunks:
    """Rows cut into chunks, and the stretch of the row that each chunk can reach.

    Attributes:
        size: places in a chunk, ≥ 1.
        before: how many places before its first one a chunk reaches.
        behind: how many places behind its last one.
    """

    size: int
    before: int
    behind: int

    def own(self, x: Shaped[Tensor, "batch time *rest"], fill: int = 0) -> Shaped[Tensor, "chunks size *rest"]:
        """Each chunk as a row; the last one of a row is filled up."""
        return self._padded(x, 0, 0, fill).unflatten(1, (-1, self.size)).flatten(0, 1)

    def reach(self, x: Shaped[Tensor, "batch time *rest"], fill: int = 0) -> Shaped[Tensor, "chunks span *rest"]:
        """What each chunk reaches, as a row; places outside of the row are filled."""
        stretches = self._padded(x, self.before, self.behind, fill).unfold(1, self.before + self.size + self.behind, self.size)
        return stretches.movedim(-1, 2).flatten(0, 1)

    def together(self, x: Shaped[Tensor, "chunks size *rest"], batch: int, time: int) -> Shaped[Tensor, "batch time *rest"]:
        """The rows that `own` cut."""
        return x.unflatten(0, (batch, -1)).flatten(1, 2)[:, :time]

    def view(self, segments: Shaped[Tensor, "batch time"], window: int, causal: bool) -> View:
        """Who sees whom within each chunk and its reach: those of the same segment less than `window` places away.

        What fills a row up sees itself, so that no row of the mask is empty.
        """
        queries = torch.arange(self.size, device=segments.device)[None]
        keys = torch.arange(-self.before, self.size + self.behind, device=segments.device)[None]
        near = View(queries, keys, causal=causal, plain_causal=causal).within(window).seen  # (1, 1, size, span)
        same = self.own(segments, OUTSIDE)[:, None, :, None] == self.reach(segments, OUTSIDE)[:, None, None, :]
        return View(queries, keys, near & same, causal)

    def _padded(self, x: Tensor, before: int, behind: int, fill: int) -> Tensor:
        up = -x.shape[1] % self.size
        return F.pad(x, (0, 0) * (x.ndim - 2) + (before, up + behind), value=fill)


def local_attention(
    mix: Callable[[Tensor, Tensor, Tensor, View], Tensor], queries: Float[Tensor, "batch time heads head_dim"],
    keys: Float[Tensor, "batch time kv_heads head_dim"], values: Float[Tensor, "batch time kv_heads head_dim"], layout: SequenceLayout,
    window: int, chunk: int,
) -> Float[Tensor, "batch time heads head_dim"]:
    """Attention of each token to those of its segment that are less than `window` places away.

    The queries of a chunk meet the keys of that chunk, of the window − 1 places before it and, both ways, of as many behind it, as if each
    chunk were a row.

    Args:
        mix: (queries, keys, values, view) → weighted sums: attention under a mask.
        queries: (batch, time, heads, head_dim).
        keys: (batch, time, kv_heads, head_dim).
        values: the same shape.
        layout: of the rows; it has no prefix.
        window: how far a token sees, itself included, in places, ≥ 1.
        chunk: queries per chunk, ≥ 1: work and memory grow with time · (chunk + window).

    Returns:
        (batch, time, heads, head_dim).
    """
    chunks = Chunks(chunk, window - 1, 0 if layout.causal else window - 1)
    segments = torch.ones_like(layout.positions) if layout.segments is None else layout.segments
    view = chunks.view(segments, window, layout.causal)
    mixed = mix(chunks.own(queries), chunks.reach(keys), chunks.reach(values), view)
    return chunks.together(mixed, *queries.shape[:2])
