"""Muon: momentum, orthogonalised, for the hidden matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor

from bloomery.optim.adamw import AdamW
from bloomery.optim.groups import Member, Role
from bloomery.optim.optimizer import Optimizer, OptimizerConfig

QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(OptimizerConfig):
    """Muon for hidden matrices, AdamW for embeddings, head and vectors.

        m ← μm + g;  u = g + μm;  θ ← θ·(1 − ηλ) − η·0.2·√max(rows, columns)·orthogonalise(u)

    A matrix that holds several (queries, keys and values; gate and up) is orthogonalised one by one. Where the model's initialisation asks
    for a factor on the rate of hidden matrices under Adam (µP), η has its square root: the update's largest singular value grows with
    √width here, and with the width under Adam. λ is divided by it.

    Source: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"; weight decay and the factor 0.2·√max, which
    gives the update the root mean square of AdamW's, from Liu et al. (2025), arXiv 2502.16982 §2.2. Departures: the iteration runs in the
    parameters' own precision and not in bf16; blocks of one shape are iterated together.
    """

    learning_rate: Annotated[float, Gt(0)] = 3e-3
    """Full rate η of matrices, on AdamW's scale."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.95
    """μ, in Nesterov's form."""
    weight_decay: Annotated[float, Ge(0)] = 0.1
    """λ of matrices."""
    iterations: Annotated[int, Ge(1)] = 5
    """Newton–Schulz iterations."""
    others: AdamW = AdamW()
    """For every parameter that is not a hidden matrix."""

    def of(self, everything: Sequence[Member]) -> Optimizer:
        rest = [role for role in Role if role is not Role.MATRIX and any(m.role is role for m in everything)]
        parts: list[torch.optim.Optimizer] = [self.others.part(everything, rest)] if rest else []
        if matrices := [m for m in everything if m.role is Role.MATRIX]:
            parts.append(_Muon(matrices, self))
        return Optimizer(everything, parts)


def orthogonalise(matrices: Float[Tensor, "batch rows columns"], iterations: int = 5) -> Float[Tensor, "batch rows columns"]:
    """Brings all singular values of each matrix near 1, keeping its singular vectors: U·S·Vᵀ → U·S′·Vᵀ, S′ in about [0.7, 1.2].

        X ← aX + (bA + cA²)X,  A = XXᵀ, from X = M / ‖M‖
    """
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class _Muon(torch.optim.Optimizer):
    def __init__(self, matrices: Sequence[Member], config: Muon) -> None:
        factors = {m.rate: sqrt(m.rate) for m in matrices}
        super().__init__([
            {"params": [m.parameter for m in matrices if m.rate == rate], "lr": config.learning_rate * factor,
             "weight_decay": config.weight_decay / factor}
            for rate, factor in factors.items()
        ], {})  # fmt: skip
        self.config = config
        self.blocks = {m.parameter: m.blocks for m in matrices}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            self._update(group)

    def _update(self, group: dict[str, Any]) -> None:
        rate, config = group["lr"], self.config
        parameters = [p for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters]
        momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
        torch._foreach_mul_(momenta, config.momentum)
        torch._foreach_add_(momenta, gradients)
        updates = torch._foreach_add(gradients, momenta, alpha=config.momentum)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter, update in zip(parameters, updates, strict=True):
            rows, updates_of_rows = parameter.flatten(0, -2), update.flatten(0, -2)
            for pair in zip(rows.split(self.blocks[parameter]), updates_of_rows.split(self.blocks[parameter]), strict=True):
                by_shape.setdefault(pair[0].shape, []).append(pair)
        for shape, pairs in by_shape.items():
            orthogonal = orthogonalise(torch.stack([update for _, update in pairs]), config.iterations)
            torch._foreach_add_([block for block, _ in pairs], list(orthogonal.unbind()), alpha=-rate * 0.2 * max(shape) ** 0.5)
