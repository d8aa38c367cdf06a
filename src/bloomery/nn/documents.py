"""Packed rows taken apart into documents, for mixers that look at a document as a whole: at its length, at blocks counted from its start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.nn.layout import PADDING, SequenceLayout


def each_document(
    mix: Callable[..., Tensor], layout: SequenceLayout, queries: Float[Tensor, "batch time heads head_dim"], *others: Tensor
) -> Float[Tensor, "batch time heads head_dim"]:
    """What `mix` makes of each document by itself, back in the rows where the documents were.

    Documents of similar length are mixed together, padded to the longest of them: at most twice the work of the tokens that there are, in
    at most log₂(time) calls. Which rows share a batch changes the order of sums, and no more.

    Args:
        mix: (queries, *others, lengths) → (documents, longest, heads, head_dim), where the tensors are (documents, longest, …), 0 behind
            the end of a document, and lengths is (documents,); what it gives behind the end of a document is not looked at.
        layout: of the rows.
        queries: (batch, time, heads, head_dim).
        others: (batch, time, …) each.

    Returns:
        (batch, time, heads, head_dim); 0 at padding.

    Raises:
        ConfigError: the layout has a prefix.
    """
    if layout.prefix is not None:
        raise ConfigError("a prefix that all of a document sees is read by full and windowed attention only; take AttentionConfig")
    if layout.segments is None:
        batch, time = layout.positions.shape
        return mix(queries, *others, torch.full((batch,), time, device=queries.device))
    return packed(mix, layout.segments, queries, *others)


def packed(
    mix: Callable[..., Tensor], segments: Int[Tensor, "batch time"], queries: Float[Tensor, "batch time heads head_dim"], *others: Tensor
) -> Float[Tensor, "batch time heads head_dim"]:
    """As `each_document`, of rows that hold more than one. Kept out of compiled graphs: its shapes are known when it runs, and not before."""
    return torch.compiler.disable(_packed)(mix, segments, queries, *others)  # not as a decorator, which would take a second to import


def _packed(
    mix: Callable[..., Tensor], segments: Int[Tensor, "batch time"], queries: Float[Tensor, "batch time heads head_dim"], *others: Tensor
) -> Float[Tensor, "batch time heads head_dim"]:
    starts, lengths = runs(segments)
    mixed = torch.zeros_like(queries).flatten(0, 1)
    similar = (lengths - 1).clamp(min=1).log2().floor()  # of lengths 2ⁿ + 1 … 2ⁿ⁺¹
    for size in similar.unique():
        chosen = similar == size
        index, inside = places(starts[chosen], lengths[chosen])
        apart = [one.flatten(0, 1)[index].masked_fill(~inside[(..., *[None] * (one.ndim - 2))], 0) for one in (queries, *others)]
        mixed[index[inside]] = mix(*apart, lengths[chosen])[inside]
    return mixed.unflatten(0, segments.shape)


def runs(segments: Int[Tensor, "batch time"]) -> tuple[Int[Tensor, " documents"], Int[Tensor, " documents"]]:
    """Where the documents begin, in places of all rows laid end to end, and how long they are."""
    new = torch.ones_like(segments, dtype=torch.bool)
    new[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = new.flatten().nonzero()[:, 0]
    lengths = torch.cat((starts[1:], starts.new_tensor([segments.numel()]))) - starts
    real = segments.flatten()[starts] != PADDING
    return starts[real], lengths[real]


def places(
    starts: Int[Tensor, " documents"], lengths: Int[Tensor, " documents"]
) -> tuple[Int[Tensor, "documents longest"], Bool[Tensor, "documents longest"]]:
    """The place of each token of documents padded to the longest, in rows laid end to end (0 for padding), and where there is a token."""
    within = torch.arange(int(lengths.max()), device=lengths.device)
    inside = within < lengths[:, None]
    return (starts[:, None] + within).masked_fill(~inside, 0), inside
