"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt

from bloomery.optim.groups import Member, Role
from bloomery.optim.optimizer import Optimizer, OptimizerConfig


class AdamW(OptimizerConfig):
    """AdamW in torch's fused form, with decay and rates by what a parameter is.

        m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  θ ← θ − η·λ·θ − η·m̂ / (√v̂ + ε)

    Matrices and the head decay by λ, embeddings by a λ of their own, vectors (norms, biases) never. Where the model's initialisation asks
    for another rate of hidden matrices (µP), λ is divided by the same factor, so that decay goes on at its own pace.

    Source: Loshchilov and Hutter (2019), arXiv 1711.05101, algorithm 2, as in torch: the decay is multiplied by the rate.
    """

    learning_rate: Annotated[float, Gt(0)] = 3e-3
    """Full rate η of matrices and vectors; the schedule's factor multiplies it."""
    embedding_rate: Annotated[float, Gt(0)] = 1.0
    """Rate of embeddings, relative to `learning_rate`."""
    head_rate: Annotated[float, Gt(0)] = 1.0
    """Rate of an untied head, relative to `learning_rate`."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.95)
    """β₁ and β₂."""
    eps: Annotated[float, Gt(0)] = 1e-8
    """ε, added to √v̂."""
    weight_decay: Annotated[float, Ge(0)] = 0.1
    """λ of matrices and of the head."""
    embedding_decay: Annotated[float, Ge(0)] = 0.0
    """λ of embeddings."""

    def of(self, everything: Sequence[Member]) -> Optimizer:
        return Optimizer(everything, [self.part(everything)])

    def part(self, everything: Sequence[Member], roles: Collection[Role] = tuple(Role)) -> torch.optim.Optimizer:
        """The torch optimiser for the members of some roles."""
        settings = {
            Role.MATRIX: (self.learning_rate, self.weight_decay),
            Role.HEAD: (self.learning_rate * self.head_rate, self.weight_decay),
            Role.EMBEDDING: (self.learning_rate * self.embedding_rate, self.embedding_decay),
            Role.VECTOR: (self.learning_rate, 0.0),
        }
        groups: list[dict[str, Any]] = []
        for role in roles:
            (rate, decay), of_role = settings[role], [m for m in everything if m.role is role]
            for factor in dict.fromkeys(m.rate for m in of_role):
                parameters = [m.parameter for m in of_role if m.rate == factor]
                groups.append({"params": parameters, "lr": rate * factor, "weight_decay": decay / factor})
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, fused=True)
