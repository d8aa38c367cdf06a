"""`Once`: documents of which some begin alike, with what they share worked out once.

Samples of one prompt repeat it, and so do both sides of a pair. Under causality a place is a function of what its document has up to there, so
that the states of equal beginnings are equal: all that is done place by place (maps, norms, feed-forward layers) need see each of them once,
and no padding. Only attention asks for whole rows; its queries, keys and values are copied into them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int, Shaped
from torch import Tensor

from bloomery.nn.layout import PADDING, SequenceLayout


@dataclass(frozen=True, eq=False, kw_only=True)
class Once(SequenceLayout):
    """The distinct places of rows, as one row: at their positions in the rows. Who sees whom is asked of the rows.

    Attributes:
        rows_of: the layout of the rows.
        number: (rows, row_time), of the distinct place that each place is; any for padding, whose state nobody asks for.
        firsts: (distinct,), where each is found first, counted through the rows.
    """

    rows_of: SequenceLayout
    number: Int[Tensor, "rows row_time"]
    firsts: Int[Tensor, " distinct"]

    @classmethod
    def of(cls, tokens: Int[Tensor, "batch time"], layout: SequenceLayout) -> Once:
        """A place is that of the document before if both documents are the same up to there.

        Args:
            tokens: of documents of which those that begin alike follow each other, within rows and from row to row; not all padding.
            layout: causal, without a prefix.
        """
        (rows, time), segments = tokens.shape, layout.segments
        changes = torch.arange(time, device=tokens.device).expand_as(tokens) == 0  # where a document begins
        if segments is not None:
            changes = changes | (segments != segments.roll(1, 1))
        real = torch.arange(rows * time, device=tokens.device) if segments is None else (segments != PADDING).flatten().nonzero()[:, 0]
        begins = changes.flatten()[real]
        place, starts = torch.arange(len(real), device=real.device), begins.nonzero()[:, 0]
        document = begins.long().cumsum(0) - 1
        within = place - starts[document]
        before = starts[(document - 1).clamp(min=0)] + within  # the same place of the document before, where that is as long
        unlike = (document == 0) | (before >= starts[document])
        before = torch.where(unlike, place, before)
        for one in (tokens, layout.positions, layout.parts):
            if one is not None:
                found = one.flatten()[real]
                unlike = unlike | (found != found[before])
        unlike = unlike.long().cumsum(0)
        parted = unlike - torch.where(starts > 0, unlike[starts - 1], 0)[document]  # differences since the document began
        first = torch.where(parted > 0, place, before)
        while not torch.equal(further := first[first], first):  # a place of the document before may be that of one before it
            first = further
        firsts, which = first.unique(return_inverse=True)
        number = torch.zeros_like(tokens).flatten().index_copy(0, real, which).view(rows, time)
        firsts = real[firsts]
        own, parts = (None if one is None else one.flatten()[firsts][None] for one in (segments, layout.parts))
        return cls(
            positions=layout.positions.flatten()[firsts][None], segments=own, parts=parts, rows_of=layout, number=number, firsts=firsts
        )

    def gather(self, x: Shaped[Tensor, "batch time *rest"]) -> Shaped[Tensor, "1 distinct *rest"]:
        """What stands at the distinct places."""
        return _rows_of(x.flatten(0, 1), self.firsts)[None]

    def spread(self, x: Shaped[Tensor, "1 distinct *rest"]) -> Shaped[Tensor, "batch time *rest"]:
        """The same at all places of the rows."""
        return _rows_of(x[0], self.number)

    def mixed(self, mix: Callable[..., Tensor], *x: Shaped[Tensor, "1 distinct ..."]) -> Shaped[Tensor, "1 distinct ..."]:
        """What `mix(*x, layout)` makes of whole rows, at the distinct places."""
        return self.gather(mix(*map(self.spread, x), self.rows_of))


def _rows_of(x: Shaped[Tensor, "known ..."], index: Int[Tensor, "*places"]) -> Shaped[Tensor, "*places ..."]:
    """x[index]. As the lookup of an embedding, whose gradient adds up in parallel, and in one order on a GPU too."""
    if not x.is_floating_point():
        return x[index]
    return F.embedding(index, x.flatten(1)).unflatten(-1, x.shape[1:])
