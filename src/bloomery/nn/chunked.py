"""Sums over the places of a batch of something as wide as a vocabulary, chunk by chunk, so that no tensor of that size is ever whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.nn.cross_entropy import places_per_chunk
from bloomery.nn.head import OutputHead

OfChunk = Callable[[Tensor, slice], Tensor]
"""(features of some places, which they are) → the sum of a loss over them."""


def chunked_sum(
    loss: OfChunk, features: Float[Tensor, "n d_features"], parameters: Sequence[Tensor], width: int, chunk_numbers: int | None = None
) -> Float[Tensor, ""]:
    """Σ over chunks of loss(features of the chunk, its places), differentiable by features and parameters.

    The gradients of a chunk are worked out as soon as its loss is, since all that comes later only scales them; then everything that was as
    wide as the vocabulary is let go.

    Args:
        loss: of a chunk; a sum over its places.
        features: one row per place.
        parameters: what else the loss depends on and gradients go to.
        width: of what a place takes within the loss.
        chunk_numbers: places times width of a chunk; None is as many as the device takes best.

    Source: gradients in the forward pass as in Hsu et al. (2024), Liger Kernel, arXiv 2410.10989, section 3.2.
    """
    chunk = places_per_chunk(width, features.device) if chunk_numbers is None else max(64, chunk_numbers // width)
    return _ChunkedSum.apply(loss, chunk, features, *parameters)  # type: ignore[no-any-return]


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: OfChunk, chunk: int, features: Tensor, *parameters: Tensor) -> Tensor:
        wanted = list(ctx.needs_input_grad[2:])
        total = features.new_zeros((), dtype=torch.promote_types(features.dtype, torch.float32))
        by_features = torch.empty_like(features) if wanted[0] else None
        by_parameters = [torch.zeros_like(p) if needed else None for p, needed in zip(parameters, wanted[1:], strict=True)]
        leaves = [p for p, needed in zip(parameters, wanted[1:], strict=True) if needed]
        for start in range(0, len(features), chunk):
            part = slice(start, start + chunk)
            with torch.set_grad_enabled(any(wanted)):
                x = features[part].detach().requires_grad_(wanted[0])
                of_part = loss(x, part)
            total += of_part.detach()
            inputs = [x, *leaves] if wanted[0] else leaves
            if not inputs:
                continue
            found = list(torch.autograd.grad(of_part, inputs, allow_unused=True))
            if by_features is not None and (gradient := found.pop(0)) is not None:
                by_features[part] = gradient
            sums = [total_of for total_of in by_parameters if total_of is not None]
            for sum_, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    sum_ += gradient
        ctx.save_for_backward(by_features, *by_parameters)
        return total

    @staticmethod
    def backward(ctx: Any, *by_results: Tensor) -> tuple[Tensor | None, ...]:
        by_total = by_results[0]
        gradients = (None if saved is None else saved * by_total.to(saved.dtype) for saved in ctx.saved_tensors)
        return (None, None, *gradients)


def logits_by_chunk(head: OutputHead, features: Float[Tensor, "n d_features"]) -> Iterator[tuple[slice, Float[Tensor, "chunk vocab"]]]:
    """What a head makes of some places, chunk by chunk: which they are, and their logits."""
    start, chunk = 0, 64  # how wide they are is known once there are some
    while start < len(features):
        logits = head(features[start : start + chunk])
        yield slice(start, start + len(logits)), logits
        start, chunk = start + len(logits), places_per_chunk(logits.shape[-1], logits.device)
