"""What ranks hand each other within a forward pass, and the way back of its gradients. Over an axis of one rank each does nothing.

Source: the pairs of collectives as in Shoeybi et al. (2019), arXiv 1909.08053 and Korthikanti et al. (2022), arXiv 2205.05198 (`gathered`,
`summed`); Jacobs et al. (2023), DeepSpeed-Ulysses, arXiv 2309.14509 (`swapped`); Lepikhin et al. (2020), arXiv 2006.16668 (`routed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bloomery.mesh.mesh import Axis


def gathered(x: Tensor, axis: Axis, dim: int) -> Tensor:
    """The stretches of all ranks, one after the other along `dim`. Backward: the sum of what each rank says of this one's stretch."""
    return x if axis.size == 1 else _Gather.apply(x, axis, dim)  # type: ignore[return-value]


def summed(x: Tensor, axis: Axis, dim: int) -> Tensor:
    """This rank's stretch of the sum of all ranks' tensors along `dim`. Backward: the stretches of all ranks."""
    return x if axis.size == 1 else _Sum.apply(x, axis, dim)  # type: ignore[return-value]


def kept(x: Tensor, axis: Axis, dim: int) -> Tensor:
    """This rank's stretch along `dim` of what every rank has. Backward: zeros around it, so that every rank only speaks for its own."""
    if axis.size == 1:
        return x
    length = x.shape[dim] // axis.size
    return x.narrow(dim, axis.index * length, length)


def swapped(x: Tensor, axis: Axis, split: int, join: int) -> Tensor:
    """Gives each rank its share of dimension `split` and gets that of `join` whole: heads for time, say. Backward: the other way round."""
    return x if axis.size == 1 else _Swap.apply(x, axis, split, join)  # type: ignore[return-value]


def routed(rows: Tensor, axis: Axis, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    """Sends `sent[r]` rows to rank r, in order, and gets `received[r]` from it. Backward: the other way round."""
    return rows if axis.size == 1 else _Route.apply(rows, axis, tuple(sent), tuple(received))  # type: ignore[return-value]


def _all_gather(x: Tensor, axis: Axis, dim: int) -> Tensor:
    first = x.movedim(dim, 0).contiguous()
    out = first.new_empty((axis.size * first.shape[0], *first.shape[1:]))
    dist.all_gather_single(out, first, group=axis.group)
    return out.movedim(0, dim)


def _reduce_scatter(x: Tensor, axis: Axis, dim: int) -> Tensor:
    first = x.movedim(dim, 0).contiguous()
    out = first.new_empty((first.shape[0] // axis.size, *first.shape[1:]))
    dist.reduce_scatter_single(out, first, group=axis.group)
    return out.movedim(0, dim)


def _all_to_all(x: Tensor, axis: Axis, split: int, join: int) -> Tensor:
    parts = torch.stack(x.chunk(axis.size, split))  # (ranks, …)
    out = torch.empty_like(parts)
    dist.all_to_all_single(out, parts, group=axis.group)
    return torch.cat(out.unbind(), join)


def _send(rows: Tensor, axis: Axis, sent: tuple[int, ...], received: tuple[int, ...]) -> Tensor:
    out = rows.new_empty((sum(received), *rows.shape[1:]))
    dist.all_to_all_single(out, rows.contiguous(), list(received), list(sent), group=axis.group)
    return out


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis, dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return _all_gather(x, axis, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _reduce_scatter(gradient, ctx.axis, ctx.dim), None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis, dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return _reduce_scatter(x, axis, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _all_gather(gradient, ctx.axis, ctx.dim), None, None


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis, split: int, join: int) -> Tensor:
        ctx.axis, ctx.split, ctx.join = axis, split, join
        return _all_to_all(x, axis, split, join)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _all_to_all(gradient, ctx.axis, ctx.join, ctx.split), None, None, None


class _Route(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, axis: Axis, sent: tuple[int, ...], received: tuple[int, ...]) -> Tensor:
        ctx.axis, ctx.sent, ctx.received = axis, sent, received
        return _send(rows, axis, sent, received)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _send(gradient, ctx.axis, ctx.received, ctx.sent), None, None, None
