"""The optimiser's state of a training that is done, for a phase that goes on with it: as a checkpoint without weights, under any layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from bloomery.core.errors import ArtifactError
from bloomery.train.checkpoints.checkpoints import Checkpoints
from bloomery.train.checkpoints.contents import Entry, entries, slots_of
from bloomery.train.checkpoints.folder import check_files, found, read_manifest
from bloomery.train.checkpoints.reader import SLOTS, Reader
from bloomery.train.state import TrainState


def leave_slots(folder: Path, state: TrainState) -> None:
    """Writes the optimiser's state, and nothing else; all ranks must ask.

    Raises:
        ResourceError: it could not be written.
    """
    if state.holding.mesh.leads:
        shutil.rmtree(folder, ignore_errors=True)  # what a session before this one was writing when it ended
    checkpoints = Checkpoints(folder, state.holding.mesh, say=lambda line: None, contents=_slots)
    checkpoints.save(state)
    checkpoints.settle()


def carry_slots(folder: Path, state: TrainState) -> int:
    """Takes over the state of each parameter that is trained and that the folder has some of; that of the others stays fresh.

    Args:
        folder: as `leave_slots` wrote it, under any layout.
        state: fresh.

    Returns:
        How many of the parameters that this rank holds have taken over theirs.

    Raises:
        ArtifactError: the state is missing, damaged, or that of other shapes.
    """
    paths = found(folder)
    if not paths:
        raise ArtifactError(f"{folder} holds no state of an optimiser; delete the artifact that it is in and run again")
    files = read_manifest(paths[0])["files"]
    check_files(paths[0], files, sorted(files))
    slots = slots_of(state, Reader(paths[0], list(files)), [held.name for held in state.holding.trainable()])
    state.optimizer.load(slots)
    return len({path.rsplit("|", 1)[0] for path in slots})


def _slots(state: TrainState) -> Iterator[Entry]:
    return (entry for entry in entries(state) if entry.key.startswith(SLOTS))
