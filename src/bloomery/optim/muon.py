"""Muon: momentum, orthogonalised, for the hidden matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from math import sqrt
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor

from bloomery.optim.adamw import AdamW
from bloomery.optim.deal import deals, is_shared
from bloomery.optim.graded import Graded, Stepper
from bloomery.optim.groups import Member, Role
from bloomery.optim.layer_rates import EvenRates
from bloomery.optim.optimizer import OptimizerConfig

QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(OptimizerConfig):
    """Muon for hidden matrices, AdamW for embeddings, head and vectors.

        m ← μm + g;  u = g + μm;  θ ← θ·(1 − ηλ) − η·0.2·√max(rows, columns)·orthogonalise(u)

    A matrix that holds several (queries, keys and values; gate and up) is orthogonalised one by one. Where the model's initialisation asks
    for a factor on the rate of hidden matrices under Adam (µP), η has its square root: the update's largest singular value grows with
    √width here, and with the width under Adam. λ is divided by it. Ranks that share matrices deal them out among themselves, so that each is
    orthogonalised by one of them.

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
    others: Graded = AdamW()
    """For every parameter that is not a hidden matrix; `layer_rates` are those of Muon for it, too."""

    def check(self) -> None:
        if not isinstance(self.others.layer_rates, EvenRates):
            raise self.refuse("others", "has layer_rates of its own, and those of Muon count for all parameters; give them to Muon")

    def parts(self, everything: Sequence[Member]) -> Sequence[torch.optim.Optimizer]:
        rest = [role for role in Role if role is not Role.MATRIX and any(m.role is role for m in everything)]
        parts: list[torch.optim.Optimizer] = [self.others.part(everything, rest)] if rest else []
        if matrices := [m for m in everything if m.role is Role.MATRIX]:
            parts.append(_Muon(matrices, self))
        return parts

    @property
    def rules(self) -> tuple[str, ...]:
        return (self.kind(), self.others.kind())

    def at(self, learning_rate: float) -> Muon:
        others = self.others.at(self.others.learning_rate * learning_rate / self.learning_rate)
        return self.replace(learning_rate=learning_rate, others=others)


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


class _Muon(Stepper):
    def __init__(self, matrices: Sequence[Member], config: Muon) -> None:
        groups = []
        for rate, layer_rate in dict.fromkeys((m.rate, m.layer_rate) for m in matrices):
            paced = [m for m in matrices if (m.rate, m.layer_rate) == (rate, layer_rate)]
            settings = {"lr": config.learning_rate * sqrt(rate) * layer_rate, "weight_decay": config.weight_decay / sqrt(rate)}
            groups.append({"params": [m.parameter for m in paced], "deals": deals(paced), "role": Role.MATRIX, **settings})
        super().__init__(groups)
        self.config = config
        self.heights = {m.parameter: m.blocks for m in matrices if not is_shared(m)}

    def update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        config = self.config
        momenta = self.slots("momentum", parameters)
        torch._foreach_mul_(momenta, config.momentum)
        torch._foreach_add_(momenta, gradients)
        updates = dict(zip(parameters, torch._foreach_add(gradients, momenta, alpha=config.momentum), strict=True))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        own = [p for p in parameters if p in self.heights]
        blocks, whole = (
            [block for p in own for block in of[p].flatten(0, -2).split(self.heights[p])] for of in ({p: p for p in own}, updates)
        )
        dealt = [deal.collect([updates[p] for p in deal.parameters]) for deal in group["deals"]]
        steps = iter(_steps([*whole, *chain(*dealt)], config.iterations))
        if blocks:
            torch._foreach_add_(blocks, list(islice(steps, len(blocks))), alpha=-group["lr"])
        for deal, matrices in zip(group["deals"], dealt, strict=True):
            torch._foreach_add_(deal.parameters, deal.give_back(list(islice(steps, len(matrices)))), alpha=-group["lr"])


def _steps(matrices: Sequence[Tensor], iterations: int) -> list[Tensor]:
    """0.2·√max(rows, columns)·orthogonalise(matrix), for those of one shape together."""
    by_shape: dict[torch.Size, list[int]] = {}
    for i, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(i)
    steps: dict[int, Tensor] = {}
    for shape, places in by_shape.items():
        orthogonal = orthogonalise(torch.stack([matrices[i] for i in places]), iterations)
        steps |= zip(places, orthogonal.mul_(0.2 * max(shape) ** 0.5), strict=True)
    return [steps[i] for i in range(len(matrices))]
