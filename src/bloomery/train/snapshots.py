"""Snapshots: what a run can be rolled back to. They are taken at steps that the run's config decides, and not when a clock says so, so that a
resumed run goes back to where an uninterrupted one would."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.mesh import Mesh
from bloomery.train.checkpoints import Checkpoints, Keep
from bloomery.train.checkpoints.folder import found, remove, step_of
from bloomery.train.state import TrainState

KEPT = 2
ALL = Keep(last=1 << 30)


class Snapshots(ABC):
    """Keeps the last two states that it is given. On several ranks, all of them must ask."""

    @abstractmethod
    def keep(self, state: TrainState) -> None:
        """Takes one."""

    @abstractmethod
    def back(self, state: TrainState, before: int) -> bool:
        """Brings the state to the newest snapshot of a step up to `before`, or else to the oldest, and forgets those that are newer.

        Returns:
            False where there is none; the state is untouched then.
        """


class InMemory(Snapshots):
    """In the host's memory, each rank what it holds: weights, moments and average, twice. Gone with the process: a resumed run has none."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []

    def keep(self, state: TrainState) -> None:
        self._kept = [old for old in self._kept if old["step"] < state.step][1 - KEPT :]
        self._kept.append({
            "step": state.step, "ledger": state.ledger, "optimizer": _copied(state.optimizer.state()),
            "weights": _copied({name: held.local.detach() for name, held in state.changing.items()}),
            "average": None if state.average is None else (_copied(state.average.values), state.average.updates),
        })  # fmt: skip

    def back(self, state: TrainState, before: int) -> bool:
        if not self._kept:
            return False
        fit = max((i for i, one in enumerate(self._kept) if one["step"] <= before), default=0)
        self._kept = self._kept[: fit + 1]
        one = self._kept[fit]
        with torch.no_grad():
            for name, held in state.changing.items():
                held.local.copy_(one["weights"][name][0])
        state.optimizer.load({slot: tensor.to(device) for slot, (tensor, device) in one["optimizer"].items()})
        if state.average is not None:
            values, updates = one["average"]
            state.average.load({name: tensor for name, (tensor, _) in values.items()}, updates)
        state.step, state.ledger = one["step"], one["ledger"]
        return True


class OnDisk(Snapshots):
    """As checkpoints of their own, which outlast the process; under any layout.

    Args:
        folder: for them alone.
        resumable: that of the run's checkpoints. What a run that goes on from one of them would have kept by then is kept, too.
        mesh: the ranks.
    """

    def __init__(self, folder: Path, resumable: Path, mesh: Mesh) -> None:
        self.resumable, self.mesh = resumable, mesh
        self.checkpoints = Checkpoints(folder, mesh, ALL, say=lambda line: None)

    def keep(self, state: TrainState) -> None:
        self.checkpoints.save(state)
        self.checkpoints.settle()
        if self.mesh.leads:
            taken = sorted({step_of(path) for path in found(self.checkpoints.folder)})
            moments = [state.step, *map(step_of, found(self.resumable))]
            needed = {step for now in moments for step in [step for step in taken if step <= now][-KEPT:]}
            for path in found(self.checkpoints.folder):
                if step_of(path) not in needed:
                    remove(path)
                needed.discard(step_of(path))  # of two of one step the newer one stays

    def back(self, state: TrainState, before: int) -> bool:
        paths = found(self.checkpoints.folder) if self.mesh.leads else []
        to = max((step for step in map(step_of, paths) if step <= before), default=min(map(step_of, paths), default=0))
        for path in paths:
            if step_of(path) > to:
                remove(path)
        return self.checkpoints.resume(state)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, torch.device]]:
    """Copies in the host's memory, and where they came from."""
    return {name: (tensor.to("cpu", copy=True), tensor.device) for name, tensor in tensors.items()}
