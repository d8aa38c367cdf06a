"""`Checkpoints`: those of a run. Saved while training goes on, whole or not there, read under any layout."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ArtifactError, BloomeryError, ResourceError
from bloomery.mesh import Mesh
from bloomery.store.files import os_errors
from bloomery.train.checkpoints.contents import Entry, entries, load, verify
from bloomery.train.checkpoints.folder import (
    USUAL,
    Keep,
    Saved,
    check_files,
    found,
    free_name,
    read_manifest,
    remove,
    write_manifest,
    write_rank,
)
from bloomery.train.checkpoints.reader import Reader
from bloomery.train.state import TrainState


class Checkpoints:
    """The checkpoints of a run, as all of its ranks write and read them; each method is for all of them to call.

    `save` copies what this rank has to write and returns; a thread writes it. When all ranks have written, the first one puts down the
    manifest, and only then is the checkpoint one, and only then do older ones go. If a rank cannot write, the run goes on with those that
    are there, unless it is the last that cannot.

    Args:
        folder: of all checkpoints, which all ranks see.
        mesh: the ranks.
        keep: which ones stay.
        facts: what decides the numbers besides the state, as plain data; a checkpoint with other facts is not gone on from.
        say: told what happens; on the first rank only.
        contents: what of a state is written; all that there is unless told otherwise, and only then can it be resumed.
    """

    def __init__(
        self, folder: Path, mesh: Mesh, keep: Keep = USUAL, facts: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = print, contents: Callable[[TrainState], Iterable[Entry]] = entries,
    ) -> None:  # fmt: skip
        self.folder, self.mesh, self.keep = folder, mesh, keep
        self.facts = json.loads(json.dumps(facts or {}))
        self._say = say if mesh.leads else lambda _: None
        self._contents = contents
        self._ranks = mesh.apart()  # the thread's sums may not get between those of the steps
        self._buffers: dict[str, Tensor] = {}
        self._newest: dict[str, Any] = {}
        self._thread: threading.Thread | None = None
        self._trouble = ""
        self._error: Exception | None = None

    def save(self, state: TrainState) -> None:
        """Makes a checkpoint of the state, at a yield of the loop; waits for the one before, where that is still being written."""
        self._wait()
        about = {
            "step": state.step, "average_updates": 0 if state.average is None else state.average.updates,
            "layout": str(self.mesh.layout), "facts": self.facts, "ledger": json.loads(json.dumps(state.ledger)),
        }  # fmt: skip
        if about == self._newest:
            return
        saved = [Saved(one.key, self._copy(one.key, one.tensor), one.part) for one in self._contents(state) if one.spoken]
        self._thread = threading.Thread(target=self._write, args=(saved, about), name="checkpoint", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Waits for the last checkpoint.

        Raises:
            ResourceError: it could not be written.
        """
        self._wait()
        if self._trouble:
            raise ResourceError(self._trouble)

    def close(self, patience_s: float = 60.0) -> None:
        """Lets what is being written come to its end, if that is soon; for a run that ends otherwise than it should."""
        if self._thread is not None:
            self._thread.join(patience_s)

    def resume(self, state: TrainState) -> bool:
        """Brings the state to the newest checkpoint whose every byte is as it was written; damaged ones are named and deleted.

        Args:
            state: fresh, under any layout; untouched where there is nothing to resume.

        Returns:
            Whether there was one.

        Raises:
            ArtifactError: it belongs to another run, or memory does not hold what was read into it.
        """
        self._wait()
        names: list[str] = json.loads(self._ranks.tell(json.dumps([path.name for path in found(self.folder)]), 0))
        for name in names:
            path = self.folder / name
            if trouble := self._any_trouble(partial(self._check, path)):
                self._say(trouble)
                if self.mesh.leads:
                    remove(path)
                continue
            manifest = read_manifest(path)
            self._load(path, manifest, state)
            if self.mesh.leads:
                self.keep.apply(self.folder, path)
            there = "" if manifest["layout"] == str(self.mesh.layout) else f", which was written under {manifest['layout']}"
            self._say(f"going on from step {state.step}{there}")
            return True
        if names:
            self._say("no checkpoint is whole; starting again from step 0")
        return False

    def _copy(self, key: str, tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = self._buffers[key] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return buffer.copy_(tensor.detach())

    def _write(self, saved: list[Saved], about: dict[str, Any]) -> None:
        """What the thread does: the files, then the word that they are all there."""
        try:
            path = self.folder / self._ranks.tell(free_name(self.folder, about["step"]) if self.mesh.leads else "", 0)
            self._trouble = self._any_trouble(partial(write_rank, path, self.mesh.rank, saved))
            self._trouble = self._trouble or self._any_trouble(partial(self._acknowledge, path, about))
            if not self._trouble:
                self._newest = about
            elif self.mesh.leads:
                self._attempt(partial(remove, path))
                self._say(f"{path.name} is not there, and the run goes on with those before it: {self._trouble}")
        except Exception as error:  # raised where the next checkpoint is asked for
            self._error = error

    def _acknowledge(self, path: Path, about: Mapping[str, Any]) -> None:
        if self.mesh.leads:
            write_manifest(path, self.mesh.layout.world, about)
            if trouble := self._attempt(partial(self.keep.apply, self.folder, path)):
                self._say(f"older checkpoints than {path.name} could not be deleted: {trouble}")

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _attempt(self, action: Callable[[], None]) -> str:
        """What kept an action from being done."""
        try:
            with os_errors(self.folder):
                action()
        except (BloomeryError, OSError) as error:
            return str(error)
        return ""

    def _any_trouble(self, action: Callable[[], None]) -> str:
        """Does an action on all ranks, and tells all of them what kept the first of those from it that could not do it."""
        trouble = self._attempt(action)
        having = self._ranks.total([float(bool(trouble) and rank == self._ranks.index) for rank in range(self._ranks.size)])
        first = next((rank for rank, one in enumerate(having) if one), None)
        return "" if first is None else self._ranks.tell(trouble, first)

    def _check(self, path: Path) -> None:
        """Reads this rank's share of a checkpoint's bytes, and the manifest."""
        sums = read_manifest(path)["files"]
        check_files(path, sums, sorted(sums)[self._ranks.index :: self._ranks.size])

    def _load(self, path: Path, manifest: Mapping[str, Any], state: TrainState) -> None:
        for name, value in self.facts.items():
            if manifest["facts"].get(name) != value:
                raise ArtifactError(f"{path} was written with {name}={manifest['facts'].get(name)}, and this run has {value}; give the run "
                                    "that again, or another folder")  # fmt: skip
        reader = Reader(path, list(manifest["files"]))
        for action in (partial(load, state, reader, manifest["average_updates"]), partial(verify, state, reader)):
            if trouble := self._any_trouble(action):
                raise ArtifactError(trouble)
        state.step, state.ledger = manifest["step"], manifest["ledger"]
        self._newest = {name: manifest[name] for name in ("step", "average_updates", "facts", "ledger")} | {"layout": str(self.mesh.layout)}
