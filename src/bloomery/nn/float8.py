"""Matrix products of linear layers in 8 bits, forward and backward, where a device has units for them.

    y = s_x·s_W · (x₈ · W₈ᵀ),   t₈ = round(t / s_t),   s_t = max|t| / the largest number of the format

Each tensor has one scale, found anew at each product. Numbers have 4 bits of exponent and 3 of mantissa on the way forward, and 5 and 2 for
gradients, whose range is wider. Sums, and everything that is no product of a `Linear`, stay as they were: weights are fp32, activations bf16.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.linear import Linear

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16  # of the sizes of a product that the units take


def float8_product(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """W·x + b by products of 8 bits, in bf16; its gradients are such products, too.

    Args:
        x: rows; where they are no multiple of 16, which only happens outside of training, the product is one of bf16.
        weight: W, both sizes multiples of 16.
        bias: added afterwards.

    Source: Micikevicius et al. (2022), arXiv 2209.05433; one dynamic scale per tensor as torchao's "tensorwise" recipe has it.
    """
    if x.shape[:-1].numel() % MULTIPLE:
        return F.linear(x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16())
    y: Tensor = _Float8Product.apply(x.flatten(0, -2).bfloat16(), weight)  # type: ignore[assignment]
    y = y.unflatten(0, x.shape[:-1])
    return y if bias is None else y + bias.to(y.dtype)


class _Float8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        (x8, by_x), (w8, by_w) = scaled(x, FORWARD), scaled(weight, FORWARD)
        ctx.save_for_backward(x8, by_x, weight)
        return _product(x8, w8, by_x, by_w)

    @staticmethod
    def backward(ctx: Any, *by_results: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x8, by_x, weight = ctx.saved_tensors
        by_input = by_weight = None
        g8, by_g = scaled(by_results[0], BACKWARD)
        if ctx.needs_input_grad[0]:
            w8, by_w = scaled(weight, FORWARD)
            by_input = _product(g8, w8.T.contiguous(), by_g, by_w)  # (n, d_in)
        if ctx.needs_input_grad[1]:
            by_weight = _product(g8.T.contiguous(), x8.T.contiguous(), by_g, by_x).to(weight.dtype)  # (d_out, d_in)
        return by_input, by_weight


def scaled(tensor: Tensor, form: torch.dtype) -> tuple[Tensor, Float[Tensor, ""]]:
    """A tensor in 8 bits, and what to multiply it by to have it back; numbers of the largest size keep their size."""
    largest = tensor.abs().amax().float().clamp(min=1e-12)  # what is all 0 stays so
    scale = torch.finfo(form).max / largest
    return (tensor.float() * scale).to(form), scale.reciprocal()


def _product(a: Tensor, b: Tensor, by_a: Tensor, by_b: Tensor) -> Tensor:
    """a · bᵀ of scaled tensors whose rows lie in memory one after the other, in bf16."""
    return torch._scaled_mm(a, b.T, scale_a=by_a, scale_b=by_b, out_dtype=torch.bfloat16, use_fast_accum=a.dtype == b.dtype)


def check_float8(device: torch.device | str) -> None:
    """Refuses devices whose units know no numbers of 8 bits."""
    where = torch.device(device)
    if where.type == "cuda" and torch.cuda.get_device_capability(where) < (8, 9):
        raise ConfigError(f"precision='fp8': a {torch.cuda.get_device_name(where)} has no units for it, which came with Ada and Hopper; "
                          "take bf16")  # fmt: skip


def use_float8(model: nn.Module) -> int:
    """Has the linear layers of a model compute in 8 bits, but for those whose sizes the units do not take; says how many do.

    Embeddings and heads are no `Linear`, and stay as they are, as is usual: they are what suffers most.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    layers = [layer for layer in layers if not (layer.in_features % MULTIPLE or layer.out_features % MULTIPLE)]
    for layer in layers:
        layer.product = float8_product
    return len(layers)
