"""What a checkpoint is made of: the tensors of a state, as a rank holds them, and whether they are those that were saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bloomery.core.errors import ArtifactError
from bloomery.mesh import Axis, Part
from bloomery.train.checkpoints.fingerprint import fingerprint
from bloomery.train.checkpoints.reader import SLOTS, Reader
from bloomery.train.state import TrainState


class Entry(NamedTuple):
    """A tensor of a state, as this rank holds it.

    Attributes:
        key: in checkpoints.
        tensor: what this rank has.
        part: which part of the whole that is.
        cut: the ranks that share the whole.
        spoken: whether this rank, of all that have this part, is the one that writes it.
    """

    key: str
    tensor: Tensor
    part: Part
    cut: Axis
    spoken: bool


def entries(state: TrainState) -> Iterator[Entry]:
    """Everything that a state has on this rank: weights, their average, and the optimiser's state.

    A slot of the optimiser's that is shaped as its parameter is divided as that; any other is whole wherever the parameter is held.
    """
    parameters = state.changing
    for name, held in parameters.items():
        yield Entry(f"weights/{name}", held.local, held.part, held.cut, held.speaks)
        if state.average is not None and name in state.average.values:
            yield Entry(f"average/{name}", state.average.values[name], held.part, held.cut, held.speaks)
    here = state.holding.mesh.axis()
    for path, value in state.optimizer.state().items():
        held = parameters[path.rsplit("|", 1)[0]]
        if value.shape == held.local.shape:
            yield Entry(SLOTS + path, value, held.part, held.cut, held.speaks)
        else:
            yield Entry(SLOTS + path, value, Part.whole(value.shape), here, held.speaks and held.cut.index == 0)


def load(state: TrainState, reader: Reader, average_updates: int) -> None:
    """Reads what this rank holds, and nothing else, into a state.

    Args:
        state: under any layout.
        reader: of a checkpoint that has been checked.
        average_updates: how many updates the average has seen.
    """
    for name, held in state.changing.items():
        with torch.no_grad():
            held.local.copy_(reader.read(f"weights/{name}", held.part))
        if state.average is not None and name in state.average.values:
            state.average.values[name].copy_(reader.read(f"average/{name}", held.part))
    state.optimizer.load(slots_of(state, reader, state.holding.parameters))
    if state.average is not None:
        state.average.updates = average_updates


def slots_of(state: TrainState, reader: Reader, names: Iterable[str]) -> dict[str, Tensor]:
    """What there is of the optimiser's state of some parameters, as far as this rank holds them."""
    slots: dict[str, Tensor] = {}
    for name in names:
        held = state.holding.parameters[name]
        for slot in reader.slots(name):
            key = f"{SLOTS}{name}|{slot}"
            part = held.part if reader.shapes[key] == held.part.shape else Part.whole(reader.shapes[key])
            slots[f"{name}|{slot}"] = reader.read(key, part).to(held.local.device)
    return slots


def verify(state: TrainState, reader: Reader) -> None:
    """Compares what all ranks have in memory with what was saved, bit by bit, however either was divided.

    Raises:
        ArtifactError: they differ.
    """
    shared: dict[tuple[int, ...], list[Entry]] = {}
    for entry in sorted(entries(state), key=lambda entry: entry.key):  # in one order on all ranks
        shared.setdefault(entry.cut.ranks, []).append(entry)
    wrong = ""
    for group in shared.values():
        own = torch.tensor([fingerprint(entry.part, entry.tensor) for entry in group])
        for entry, there in zip(group, group[0].cut.sum_(own).tolist(), strict=True):  # int64 wraps around as fingerprints do
            if there != reader.fingerprint(entry.key):
                wrong = wrong or f"{reader.path.name}: what memory holds of {entry.key} is not what was saved; run again, on another machine"
    if wrong:
        raise ArtifactError(wrong)
