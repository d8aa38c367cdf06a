"""Cross-entropy over a vocabulary without ever holding all the logits.

The logits of a batch are its largest tensor by far, and the plain way holds three of that size: logits, log-probabilities and the gradient.
Here the positions go through the head in chunks, and each chunk leaves only its loss and its share of the gradients, which are already known
in the forward pass: a loss is a scalar, so that whatever comes later only scales them. Same matrix products as the plain way; less memory
traffic, since a chunk stays in the cache.

    ℓ  = lse(z) − (1 − ε)·z_y − ε·mean(z) + λ·lse(z)²
    ∂ℓ/∂z = (1 + 2λ·lse)·softmax(z) − (1 − ε)·onehot(y) − ε/V
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from bloomery.nn.products import product

CHUNK_LOGITS = 1 << 21  # logits per chunk: 8 MB in fp32, the cache of a few cores
GPU_CHUNK_LOGITS = 1 << 28  # 1 GB: each chunk adds to the gradient of the whole head, which is worth a thousand places and more


_FORETOLD: ContextVar[str] = ContextVar("device that chunks are foretold for", default="")


@contextmanager
def chunks_of(device: str) -> Iterator[None]:
    """Within it, chunks are as large as on a device of this type, wherever the tensors are: for plans, which are watched on a CPU."""
    before = _FORETOLD.set(device)
    try:
        yield
    finally:
        _FORETOLD.reset(before)


def places_per_chunk(vocab: int, device: torch.device) -> int:
    """Positions whose logits are held at a time."""
    foretold = None if torch.compiler.is_compiling() else _FORETOLD.get()  # which a compiled graph cannot ask, and no plan compiles
    return max(64, (CHUNK_LOGITS if (foretold or device.type) == "cpu" else GPU_CHUNK_LOGITS) // vocab)


def naive_cross_entropy(
    features: Float[Tensor, "n d_model"], head: Float[Tensor, "vocab d_model"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"],
    label_smoothing: float = 0.0, z_loss: float = 0.0, *, bias: Float[Tensor, " vocab"] | None = None, softcap: float | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The same sums by the book, with all logits held. What the chunked form is tested against."""
    logits = exactly(F.linear(features, head, bias))
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    lse = logits.logsumexp(-1)
    picked = logits.gather(-1, targets[:, None])[:, 0]
    losses = lse - (1 - label_smoothing) * picked - label_smoothing * logits.mean(-1) + z_loss * lse.square()
    return (weights * losses).sum(), (weights * (lse - picked)).sum().detach()


def chunked_cross_entropy(
    features: Float[Tensor, "n d_model"], head: Float[Tensor, "vocab d_model"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"],
    label_smoothing: float = 0.0, z_loss: float = 0.0, *, bias: Float[Tensor, " vocab"] | None = None, softcap: float | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ weight·loss and Σ weight·nll of `features @ headᵀ` against `targets`.

    Args:
        features: what the head reads, one row per position.
        head: the matrix from features to logits, one row per token of the vocabulary.
        targets: the token to be predicted at each position.
        weights: how much each position counts, ≥ 0.
        label_smoothing: ε in [0, 1): the share of the target's probability spread evenly over the vocabulary.
        z_loss: λ ≥ 0: weight of the squared log-partition, which keeps logits from drifting.
        bias: added to the logits; None for none.
        softcap: c > 0: the logits are c·tanh(z / c); None leaves them as they are.

    Returns:
        The differentiable total, and the plain negative log-likelihood in nats, detached.

    Source: Szegedy et al. (2016), arXiv 1512.00567 §7 (smoothing); Chowdhery et al. (2022), arXiv 2204.02311 §5 (z-loss); gradients in
    the forward pass as in Hsu et al. (2024), Liger Kernel, arXiv 2410.10989 §3.2, in plain PyTorch and with one gradient per chunk.
    """
    total, nll = _ChunkedCrossEntropy.apply(features, head, bias, targets, weights, label_smoothing, z_loss, softcap)
    return total, nll


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, smoothing: float, z_loss: float,
        softcap: float | None,
    ) -> tuple[Tensor, Tensor]:
        n, vocab = features.shape[0], head.shape[0]
        chunk = places_per_chunk(vocab, features.device)
        wants_features, wants_head, wants_bias = ctx.needs_input_grad[:3]
        by_features = torch.empty_like(features) if wants_features else None
        by_head = torch.zeros_like(head) if wants_head else None
        by_bias = torch.zeros_like(bias) if bias is not None and wants_bias else None
        exact = torch.promote_types(features.dtype, torch.float32)
        total, nll = features.new_zeros((), dtype=exact), features.new_zeros((), dtype=exact)
        for start in range(0, n, chunk):
            part = slice(start, start + chunk)
            x, y, w = features[part], targets[part, None], weights[part].to(exact)
            logits = exactly(product(x, head, bias))  # (chunk, vocab)
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            mean = logits.mean(-1) if smoothing else None
            picked = logits.gather(-1, y)[:, 0]
            logp = torch.log_softmax(logits, -1)
            losses = -logp.gather(-1, y)[:, 0]
            lse = losses + picked
            nll += torch.dot(w, losses)
            if mean is not None:
                losses = lse - (1 - smoothing) * picked - smoothing * mean
            total += torch.dot(w, losses + z_loss * lse.square() if z_loss else losses)
            if not (wants_features or wants_head or wants_bias):
                continue
            # The factor w·(1 + 2λ·lse) of a row is applied to the narrow sides of the products, not to the wide gradient.
            scale = (w * (1 + 2 * z_loss * lse) if z_loss else w)[:, None]
            one = (1 - smoothing) / (1 + 2 * z_loss * lse[:, None]) if z_loss else logp.new_full((1, 1), 1 - smoothing).expand_as(y)
            gradient = logp.exp_()
            if smoothing:
                gradient -= one * (smoothing / (vocab * (1 - smoothing)))
            gradient = _less_at(gradient, y, one)
            if softcap is not None:
                gradient *= 1 - (logits / softcap).square()
            gradient = gradient.to(x.dtype)
            if by_features is not None:
                by_features[part] = scale * product(gradient, head.T)
            if by_head is not None:
                by_head += gradient.T @ (scale * x)
            if by_bias is not None:
                by_bias += gradient.T @ scale[:, 0]
        ctx.save_for_backward(by_features, by_head, by_bias)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    def backward(ctx: Any, *by_results: Tensor) -> tuple[Tensor | None, ...]:
        by_total = by_results[0]
        gradients = (None if saved is None else saved * by_total.to(saved.dtype) for saved in ctx.saved_tensors)
        return (*gradients, None, None, None, None, None)


def _less_at(gradient: Tensor, y: Tensor, one: Tensor) -> Tensor:
    """What is left of a gradient when `one` is taken off each row at y: in place; or, for a compiler, in a form that it makes one kernel of
    with all around it, where a scatter would have it write the whole in fp32 before it goes on."""
    if torch.compiler.is_compiling():
        return torch.where(torch.arange(gradient.shape[-1], device=gradient.device) == y, gradient - one, gradient)
    return gradient.scatter_add_(-1, y, -one)


def exactly(x: Tensor) -> Tensor:
    """In float32, or in float64 where it is that already: what losses are computed in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
