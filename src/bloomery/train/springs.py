"""Springs: what pulls at weights that are trained, or at matrices that an adapter changes. `beside.py` says which, and how hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bloomery.mesh import Held, Holding, Part
from bloomery.nn.adapters import shells
from bloomery.nn.adapters.shells import Change, Shell


class Spring(Protocol):
    """½ Σ s·(θ − θ*)² over what this rank holds of some weights."""

    @property
    def kept(self) -> Sequence[Tensor]:
        """What it keeps in memory."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether this rank, of all that hold the same, is the one that counts it."""
        ...

    def add(self, factor: float) -> Tensor:
        """Adds its gradients, times a factor, to those of what is trained; returns its value without the factor."""
        ...


@dataclass(frozen=True, eq=False)
class OnWeight:
    """The spring of a weight that is trained itself.

    Attributes:
        held: the weight.
        stiffness: s.
        rest: θ*.
    """

    held: Held
    stiffness: Tensor
    rest: Tensor

    @property
    def kept(self) -> Sequence[Tensor]:
        return self.stiffness, self.rest

    @property
    def speaks(self) -> bool:
        return self.held.speaks

    def add(self, factor: float) -> Tensor:
        moved = self.held.local - self.rest
        force = self.stiffness * moved
        add_gradient(self.held, force, factor)
        return 0.5 * (force * moved).sum()


@dataclass(frozen=True, eq=False)
class Changed:
    """A matrix W that an adapter makes W + ΔW of, as this rank has it.

    Attributes:
        part: which of its numbers these are.
        change: ΔW.
        own: what that is made of, by its names in it; some of it, or all, is trained.
        speaks: whether this rank, of all that hold the same part, is the one that counts it.
    """

    part: Part
    change: Change
    own: Mapping[str, Held]
    speaks: bool


@dataclass(frozen=True, eq=False)
class ThroughAdapter:
    """The spring of a matrix that is not trained itself, but changed by an adapter: ½ Σ s·(W + ΔW − W*)², so that what is held is the model
    that the adapter makes, whatever A and B it is made of.

    What pulls at the matrix, f = s·(W + ΔW − W*), pulls at what ΔW is made of; of a low-rank change, (α/r)·B·A:

        ∂/∂A = (α/r)·Bᵀ·f;   ∂/∂B = (α/r)·f·Aᵀ

    Ranks that share the matrix have rows of f each, and what these come to adds up.

    Attributes:
        matrix: that is changed.
        stiffness: s.
        slack: W* − W; one 0 where the adapter began at what is pulled to.
    """

    matrix: Changed
    stiffness: Tensor
    slack: Tensor

    @property
    def kept(self) -> Sequence[Tensor]:
        return self.stiffness, self.slack

    @property
    def speaks(self) -> bool:
        return self.matrix.speaks

    def add(self, factor: float) -> Tensor:
        own = self.matrix.own
        wholes = {name: held.whole(held.local.detach()).detach().requires_grad_(held.parameter.requires_grad) for name, held in own.items()}
        trained = {name: whole for name, whole in wholes.items() if whole.requires_grad}
        with torch.enable_grad():
            change = self.matrix.part.take(self.matrix.change.difference(wholes))
        moved = change.detach() - self.slack
        force = self.stiffness * moved
        for name, gradient in zip(trained, torch.autograd.grad(change, list(trained.values()), force), strict=True):
            add_gradient(own[name], own[name].own(own[name].cut.sum_(gradient.contiguous())), factor)
        return 0.5 * (force * moved).sum()


def add_gradient(held: Held, gradient: Tensor, factor: float) -> None:
    """Adds a gradient, times a factor, to that of what this rank holds of a parameter."""
    held.local.grad = factor * gradient if held.local.grad is None else held.local.grad.add_(gradient, alpha=factor)


@torch.no_grad()
def changed(model: nn.Module, holding: Holding) -> dict[str, tuple[Changed, Tensor]]:
    """The matrices of a model that what is trained adds to, by the names of their weights, and what this rank has of each without that. All
    ranks must ask."""
    found = {}
    for path, shell in shells(model).items():
        adding = [(change, _made_of(holding, f"{path}.adapters.{change.by}", change)) for change in shell.changes if change.adds]
        trained = [(change, own) for change, own in adding if any(held.parameter.requires_grad for held in own.values())]
        if not trained:
            continue
        ((last, made),) = trained  # attaching an adapter freezes those that are there
        now, part, speaks = _bare(holding, path, shell)
        for change, own in adding:
            if change is not last:
                now = now + part.take(change.difference({name: held.whole(held.local.detach()) for name, held in own.items()}))
        found[f"{path}.weight"] = Changed(part, last, made, speaks), now
    return found


def _made_of(holding: Holding, path: str, change: Change) -> dict[str, Held]:
    """What a change is made of."""
    return {name: holding.parameters[f"{path}.{name}"] for name, _ in change.named_parameters()}


def _bare(holding: Holding, path: str, shell: Shell) -> tuple[Tensor, Part, bool]:
    """What this rank has of a shell's matrix without adapters; which part of it that is; and whether this rank counts it."""
    kept = {name: holding.parameters[f"{path}.{name}"] for name in shell.keeps}
    first = kept[shell.keeps[0]]
    rows, columns = shell.shape
    part = Part((rows, columns), (first.part.runs[0], (range(columns),)))  # ranks under adapters divide rows only
    return shell.bare({name: held.local.detach() for name, held in kept.items()}), part, first.speaks
