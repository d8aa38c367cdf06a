"""`grouped_product`: rows in groups, each group times a matrix of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

ALIGNMENT = 16  # bytes that rows must be a multiple of for CUDA's grouped kernel


def grouped_product(
    x: Float[Tensor, "rows d_in"], weight: Float[Tensor, "groups d_out d_in"], ends: Int[Tensor, " groups"]
) -> Float[Tensor, "rows d_out"]:
    """y_r = W_g · x_r, where row r is of group g. No row is dropped and none is padded; a group may be empty.

    One kernel in bfloat16 on CUDA, and a product per group elsewhere. An operation of its own, so that torch.compile, which cannot know how
    long the groups will be, need not look into it. Under autocast it computes in autocast's precision, as every product.

    Args:
        x: rows in the order of their groups.
        weight: a matrix per group.
        ends: int32, the row behind each group's last; the last is the number of rows.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return _product(x.to(dtype), weight.to(dtype), ends)


@torch.library.custom_op("bloomery::grouped_product", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor ends) -> Tensor")
def _product(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    if _has_kernel(x, weight.shape[1]):
        return F.grouped_mm(x, weight.mT, offs=ends)
    y = x.new_empty(x.shape[0], weight.shape[1])
    for rows, matrix in zip(_groups(ends), weight, strict=True):
        torch.mm(x[rows], matrix.mT, out=y[rows])
    return y


@torch.library.custom_op("bloomery::grouped_outer", mutates_args=(), schema="(Tensor g, Tensor x, Tensor ends) -> Tensor")
def _outer(g: Tensor, x: Tensor, ends: Tensor) -> Tensor:
    """Σ over a group's rows of g_r · x_rᵀ, for each group: (groups, d_out, d_in)."""
    if _has_kernel(x, g.shape[1]):
        return F.grouped_mm(g.mT, x, offs=ends)
    sums = x.new_empty(len(ends), g.shape[1], x.shape[1])
    for rows, total in zip(_groups(ends), sums, strict=True):
        torch.mm(g[rows].mT, x[rows], out=total)
    return sums


def _groups(ends: Tensor) -> list[slice]:
    last = ends.tolist()  # the one wait for the device
    return [slice(start, end) for start, end in zip([0, *last], last, strict=False)]


def _has_kernel(x: Tensor, d_out: int) -> bool:
    aligned = all(width * x.element_size() % ALIGNMENT == 0 for width in (x.shape[1], d_out))
    return aligned and x.dtype == torch.bfloat16 and x.is_cuda and torch.cuda.get_device_capability(x.device) >= (8, 0)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> tuple[Tensor, Tensor, None]:
    x, weight, ends = ctx.saved_tensors  # type: ignore[attr-defined]
    g = g.contiguous()
    return _product(g, weight.mT, ends), _outer(g, x, ends), None


_product.register_fake(lambda x, weight, ends: x.new_empty(x.shape[0], weight.shape[1]))
_outer.register_fake(lambda g, x, ends: x.new_empty(len(ends), g.shape[1], x.shape[1]))
_product.register_autograd(_backward, setup_context=_keep)
