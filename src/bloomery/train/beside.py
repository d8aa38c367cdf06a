"""`Beside`: what an objective looks back at while a model is trained: models that nothing changes, and pulls on the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.mesh import Holding, Part
from bloomery.models import Model
from bloomery.objectives import Penalty
from bloomery.objectives.objective import Total
from bloomery.train.spreading import Fill
from bloomery.train.springs import OnWeight, Spring, ThroughAdapter, changed


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


def _kept(told: Fill, parts: Mapping[str, tuple[Part, Tensor]]) -> dict[str, Tensor]:
    """Of each tensor that fits one of some, the part that this rank has of that, in its type and place."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, whole: Tensor) -> None:
        part, like = parts.get(name, (None, None))
        if part is not None and like is not None and tuple(whole.shape) == part.shape:
            kept[name] = part.take(whole).detach().to(like.device, like.dtype, copy=True)

    told(keep)
    return kept
