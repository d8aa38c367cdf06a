"""`Beside`: what an objective looks back at while a model is trained: models that nothing changes, and pulls on the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.mesh import Held, Holding, Part
from bloomery.models import Model
from bloomery.nn.adapters import shells
from bloomery.nn.adapters.shells import Change, Shell
from bloomery.objectives import Penalty
from bloomery.objectives.objective import Total
from bloomery.train.spreading import Fill


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
        own: what that is made of and what is trained, by its names in it.
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
        wholes = {name: held.whole(held.local.detach()).detach().requires_grad_() for name, held in own.items()}
        with torch.enable_grad():
            change = self.matrix.part.take(self.matrix.change.difference(wholes))
        moved = change.detach() - self.slack
        force = self.stiffness * moved
        for held, gradient in zip(own.values(), torch.autograd.grad(change, list(wholes.values()), force), strict=True):
            add_gradient(held, held.own(held.cut.sum_(gradient.contiguous())), factor)
        return 0.5 * (force * moved).sum()


def add_gradient(held: Held, gradient: Tensor, factor: float) -> None:
    """Adds a gradient, times a factor, to that of what this rank holds of a parameter."""
    held.local.grad = factor * gradient if held.local.grad is None else held.local.grad.add_(gradient, alpha=factor)


@dataclass(frozen=True, eq=False)
class Pull:
    """A penalty on the weights that this rank holds: factor · ½ Σ s·(θ − θ*)².

    Attributes:
        factor: of the term.
        metric: what its value is called.
        springs: of each weight that is pulled; all ranks that share one have them in one order.
    """

    factor: float
    metric: str
    springs: Sequence[Spring]

    @torch.no_grad()
    def add(self, device: torch.device | str) -> Total:
        """Adds the pull to the gradients of the step, which are added up and divided already. All ranks must ask.

        Returns:
            This rank's part of the penalty, those of all of them adding up to it; and the same without the factor, as a metric.
        """
        value = torch.zeros((), device=device)
        for spring in self.springs:
            own = spring.add(self.factor)
            if spring.speaks:
                value += own
        return self.factor * value, {self.metric: value}


@dataclass(frozen=True, eq=False)
class Beside:
    """What an objective looks back at. No step changes it, and no checkpoint holds it.

    Attributes:
        frozen: models, by `Frozen.address`.
        pulls: on the weights.
    """

    frozen: Mapping[str, Model] = field(default_factory=dict)
    pulls: Sequence[Pull] = ()


def pull_of(factor: float, penalty: Penalty, model: nn.Module, holding: Holding, anchor: Fill, importance: Fill | None = None) -> Pull:
    """A penalty on what this rank holds; no more than that is kept of what is told. A matrix that an adapter changes is pulled as the adapter
    has it, and what the adapter is made of is not pulled for itself.

    Args:
        factor: of the term.
        penalty: the term.
        model: that is trained.
        holding: its weights, those that are trained and others.
        anchor: tells the penalty's θ* by name.
        importance: tells what is known of each number, by name.

    Raises:
        ConfigError: the anchor has none of the weights that are trained, or one of them is changed by an adapter as well.
    """
    matrices = changed(model, holding)
    inner = {held.name for matrix, _ in matrices.values() for held in matrix.own.values()}
    weights = {held.name: held for held in holding.trainable() if held.name not in inner}
    if both := matrices.keys() & weights.keys():
        raise ConfigError(f"Train.adapter has {min(both)} trained whole and changes it as well, where {penalty.kind()} has two things to pull; "
                          "leave it out of adapter.whole or of adapter.targets")  # fmt: skip
    parts = {name: (held.part, held.local) for name, held in weights.items()} | {name: (one.part, now) for name, (one, now) in matrices.items()}
    rest, known = _kept(anchor, parts), {} if importance is None else _kept(importance, parts)
    if not holding.mesh.world.total([len(rest)])[0]:
        raise ConfigError(f"{penalty.kind()}.anchor={penalty.towards.address} has none of the weights that are trained; penalise what was "
                          "trained before, or take another term")  # fmt: skip
    springs: list[Spring] = []
    for name, (_, like) in parts.items():
        stiffness = penalty.stiffness(known.get(name)) if name in rest else penalty.new_stiffness
        if not isinstance(stiffness, Tensor) and not stiffness:
            continue
        strength = torch.as_tensor(stiffness, dtype=like.dtype, device=like.device)
        target = rest.pop(name, like.new_zeros(()))
        if name in weights:
            springs.append(OnWeight(weights[name], strength, target))
        else:
            slack = target - like
            springs.append(ThroughAdapter(matrices[name][0], strength, slack if slack.any() else like.new_zeros(())))
    return Pull(factor, penalty.metric, springs)


@torch.no_grad()
def changed(model: nn.Module, holding: Holding) -> dict[str, tuple[Changed, Tensor]]:
    """The matrices of a model that what is trained adds to, by the names of their weights, and what this rank has of each without that. All
    ranks must ask."""
    found = {}
    for path, shell in shells(model).items():
        adding = [(change, _made_of(holding, f"{path}.adapters.{change.by}", change)) for change in shell.changes if change.adds]
        trained = [(change, own) for change, own in adding if all(held.parameter.requires_grad for held in own.values())]
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


def _kept(told: Fill, parts: Mapping[str, tuple[Part, Tensor]]) -> dict[str, Tensor]:
    """Of each tensor that fits one of some, the part that this rank has of that, in its type and place."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, whole: Tensor) -> None:
        part, like = parts.get(name, (None, None))
        if part is not None and like is not None and tuple(whole.shape) == part.shape:
            kept[name] = part.take(whole).detach().to(like.device, like.dtype, copy=True)

    told(keep)
    return kept
