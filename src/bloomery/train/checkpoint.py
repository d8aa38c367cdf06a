"""Checkpoints: folders that are whole or not there, checked byte by byte before they are believed.

    checkpoints/step-00000100/
        weights.safetensors    parameters by name
        optimizer.safetensors  state by `<parameter>|<slot>`
        average.safetensors    the moving average, if one is kept
        manifest.json          step, updates of the average, SHA-256 of each file; written last
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from bloomery.core.errors import ArtifactError
from bloomery.store.files import read_json, sha256_of, write_bytes, write_json
from bloomery.train.state import TrainState

KEPT = 2  # a torn or damaged newest leaves one to go on from
MANIFEST = "manifest.json"


def save_checkpoint(folder: Path, state: TrainState) -> Path:
    """Writes a checkpoint of the state and forgets all but the newest two.

    Args:
        folder: that of all checkpoints of the run.
        state: at a yield of the loop.

    Returns:
        The checkpoint's own folder.
    """
    path = folder / f"step-{state.step:08}"
    shutil.rmtree(path, ignore_errors=True)  # what a run that was killed while writing left
    parts: dict[str, dict[str, Tensor]] = {
        "weights": {name: p.detach() for name, p in state.model.named_parameters()}, "optimizer": state.optimizer.state(),
    }
    if state.average is not None:
        parts["average"] = state.average.values
    sums = {}
    for name, tensors in parts.items():
        sums[f"{name}.safetensors"] = write_bytes(path / f"{name}.safetensors", save({k: v.cpu().contiguous() for k, v in tensors.items()}))
    updates = 0 if state.average is None else state.average.updates
    write_json(path / MANIFEST, {"step": state.step, "average_updates": updates, "sha256": sums})
    for old in checkpoints(folder)[KEPT:]:
        (old / MANIFEST).unlink(missing_ok=True)  # first, so that a kill in between leaves nothing that looks whole
        shutil.rmtree(old)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The folders of all checkpoints, newest first, whole or not."""
    return sorted(folder.glob("step-*"), reverse=True)


def resume(folder: Path, state: TrainState, say: Callable[[str], None]) -> bool:
    """Brings the state to the newest checkpoint whose every byte is as it was written; damaged ones are named and deleted.

    Args:
        folder: that of all checkpoints of the run.
        state: fresh; untouched where there is nothing to resume.
        say: told what has been found.

    Returns:
        Whether there was one.
    """
    found = checkpoints(folder)
    for path in found:
        try:
            manifest = _checked(path)
        except ArtifactError as error:
            say(str(error))
            shutil.rmtree(path)
            continue
        _load(path, manifest, state)
        say(f"going on from step {state.step}")
        return True
    if found:
        say("no checkpoint is whole; starting again from step 0")
    return False


def _checked(path: Path) -> dict:
    if not (path / MANIFEST).exists():
        raise ArtifactError(f"{path.name} is torn: it was being written when the run ended; going back to the checkpoint before it")
    manifest = read_json(path / MANIFEST)
    for name, expected in manifest["sha256"].items():
        if not (path / name).exists() or sha256_of(path / name) != expected:
            raise ArtifactError(f"{path.name}/{name} is damaged: its checksum is not the one written; going back to the checkpoint before it")
    return manifest


def _load(path: Path, manifest: dict, state: TrainState) -> None:
    weights = load_file(path / "weights.safetensors")
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            parameter.copy_(weights[name])
    state.optimizer.load(load_file(path / "optimizer.safetensors"))
    if state.average is not None:
        state.average.load(load_file(path / "average.safetensors"), manifest["average_updates"])
    state.step = manifest["step"]
