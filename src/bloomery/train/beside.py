"""`Beside`: what an objective looks back at while a model is trained: models that nothing changes, and pulls on the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.mesh import Held, Holding
from bloomery.models import Model
from bloomery.objectives import Penalty
from bloomery.objectives.objective import Total
from bloomery.train.spreading import Fill


@dataclass(frozen=True, eq=False)
class Pull:
    """A penalty on the weights that this rank holds: factor · ½ Σ s·(θ − θ*)².

    Attributes:
        factor: of the term.
        metric: what its value is called.
        springs: of each weight that is pulled: what is held of it, s, and θ*.
    """

    factor: float
    metric: str
    springs: Sequence[tuple[Held, Tensor, Tensor]]

    @torch.no_grad()
    def add(self, device: torch.device | str) -> Total:
        """Adds the pull to the gradients of the step, which are added up and divided already.

        Returns:
            This rank's part of the penalty, those of all of them adding up to it; and the same without the factor, as a metric.
        """
        value = torch.zeros((), device=device)
        for held, stiffness, rest in self.springs:
            moved = held.local - rest
            force = stiffness * moved
            held.local.grad = self.factor * force if held.local.grad is None else held.local.grad.add_(force, alpha=self.factor)
            if held.speaks:
                value += 0.5 * (force * moved).sum()
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


def pull_of(factor: float, penalty: Penalty, holding: Holding, anchor: Fill, importance: Fill | None = None) -> Pull:
    """A penalty on what this rank holds; no more than that is kept of what is told.

    Args:
        factor: of the term.
        penalty: the term.
        holding: the weights that are trained, and others.
        anchor: tells the penalty's θ* by name.
        importance: tells what is known of each number, by name.

    Raises:
        ConfigError: the anchor has none of the weights that are trained.
    """
    rest, known = _kept(anchor, holding), {} if importance is None else _kept(importance, holding)
    if not holding.mesh.world.total([len(rest)])[0]:
        raise ConfigError(f"{penalty.kind()}.anchor={penalty.towards.address} has none of the weights that are trained; penalise what was "
                          "trained before, or take another term")  # fmt: skip
    springs = []
    for held in holding.trainable():
        name, like = held.name, held.local
        stiffness = penalty.stiffness(known.get(name)) if name in rest else penalty.new_stiffness
        if isinstance(stiffness, Tensor) or stiffness:
            strength = torch.as_tensor(stiffness, dtype=like.dtype, device=like.device)
            springs.append((held, strength, rest.get(name, like.new_zeros(()))))
    return Pull(factor, penalty.metric, springs)


def _kept(told: Fill, holding: Holding) -> dict[str, Tensor]:
    """This rank's parts of the tensors that fit those which are trained."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, whole: Tensor) -> None:
        held = holding.parameters.get(name)
        if held is not None and held.parameter.requires_grad and tuple(whole.shape) == held.part.shape:
            kept[name] = held.own(whole).detach().to(held.local.device, held.local.dtype, copy=True)

    told(keep)
    return kept
