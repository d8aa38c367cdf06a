"""`TrainState`: everything that a step changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bloomery.mesh import ALONE, Held, Holding
from bloomery.models import Model
from bloomery.objectives import Models
from bloomery.optim import Average, Optimizer
from bloomery.train.beside import Beside
from bloomery.train.healing import Ledger
from bloomery.train.scaling import LossScale


@dataclass(eq=False)
class TrainState:
    """What a checkpoint holds and a step changes.

    The place in the data is not among it: rows of step k are those that the course gives it, so that it cannot come apart from the step. Only
    where a run was rolled back are they further on, by what `known` says.

    Attributes:
        model: the model that is trained.
        optimizer: over its parameters.
        average: the moving average of its weights, if one is kept.
        step: optimiser steps done.
        known: what the ladder that heals the run knows.
        update: (size of the last update, whether it was taken back), on the device, until the next step fetches it; None where nobody asks.
        scale: what the loss is multiplied by before the backward pass, and gradients divided by after it; 1 but in fp16.
        fixed: names of parameters that no step changes: whoever filled the model fills them again, and checkpoints leave them out.
        holding: the model's parameters as this rank holds them; unless given, all of them, as the only rank.
        beside: what the objective looks back at; no part of what a step changes, and in no checkpoint.
        tuned: numbers that the source of the rows sets along the way, by name.
    """

    model: Model
    optimizer: Optimizer
    average: Average | None = None
    step: int = 0
    known: Ledger = field(default=Ledger(), kw_only=True)
    update: Tensor | None = field(default=None, kw_only=True)
    scale: LossScale = field(default=LossScale(1.0), kw_only=True)
    fixed: frozenset[str] = field(default=frozenset(), kw_only=True)
    holding: Holding = field(default=None, kw_only=True)  # type: ignore[assignment]
    beside: Beside = field(default=Beside(), kw_only=True)
    tuned: dict[str, float] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.holding is None:
            self.holding = Holding.alone(self.model, ALONE)

    @property
    def models(self) -> Models:
        """The models that the objective may ask."""
        return Models(self.model, self.beside.frozen)

    @property
    def changing(self) -> dict[str, Held]:
        """The parameters that steps change, by name."""
        return {name: held for name, held in self.holding.parameters.items() if name not in self.fixed}

    @property
    def spoken(self) -> list[Tensor]:
        """The gradients that this rank counts in the norm of all."""
        return [held.local.grad for held in self.holding.trainable() if held.speaks and held.local.grad is not None]

    @property
    def ledger(self) -> dict[str, Any]:
        """What a checkpoint's manifest says of the state besides the step: plain data, the same on all ranks. Waits for the device."""
        update = {} if self.update is None else {"update": self.update.tolist()}
        scale = {} if self.scale == LossScale(1.0) else {"scale": [self.scale.factor, self.scale.healthy]}
        return self.known.plain() | update | scale | ({"tuned": dict(self.tuned)} if self.tuned else {})

    @ledger.setter
    def ledger(self, plain: Mapping[str, Any]) -> None:
        self.update = None
        if "update" in plain:
            self.update = torch.tensor(plain["update"], device=next(self.model.parameters()).device)
        self.scale = LossScale(*plain.get("scale", [1.0]))
        self.tuned = dict(plain.get("tuned", {}))
        self.known = Ledger.of({name: value for name, value in plain.items() if name not in ("update", "scale", "tuned")})
