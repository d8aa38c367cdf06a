"""The folder of a checkpoint: which files, what they say of themselves, and which folders are kept.

    checkpoints/step-00000100/
        rank-00003.safetensors    the numbers that this rank wrote
        rank-00003.json           of each of its tensors: shape of the whole, type, the boxes of it that are there, their fingerprint
        manifest.json             step, layout, facts, ledger, SHA-256 of each file and of itself; written last
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from bloomery.core.errors import ArtifactError
from bloomery.mesh import Part
from bloomery.models.tensor_file import TYPES, in_order, kinds_of, write_tensors
from bloomery.store.files import atomic_file, read_json, sha256_of, write_json
from bloomery.train.checkpoints.fingerprint import fingerprint

MANIFEST = "manifest.json"
BACK = "going back to the checkpoint before it"


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay when a newer one is there.

    Attributes:
        last: how many of the newest; a damaged one leaves the one before to go on from.
        every: steps; those of its multiples are made, and stay for good. None keeps none for good.
    """

    last: int = 2
    every: int | None = None

    def permanent(self, step: int) -> bool:
        """Whether the checkpoint of a step stays for good."""
        return self.every is not None and step > 0 and step % self.every == 0

    def apply(self, folder: Path, newest: Path | None = None) -> None:
        """Deletes the checkpoints that need not stay, and the folder of all where none is left.

        Args:
            folder: of all checkpoints.
            newest: the one that the run is at; those of later steps belong to a course that it has left. None is that of the last step.
        """
        whole = [path for path in found(folder) if (path / MANIFEST).exists() and (newest is None or path.name <= newest.name)]
        stay = {*whole[: self.last], *(path for path in whole if self.permanent(step_of(path)))}
        for path in found(folder):
            if path not in stay:
                remove(path)
        if folder.exists() and not stay:
            folder.rmdir()


USUAL = Keep()


class Saved(NamedTuple):
    """A tensor, or a part of one, to be written."""

    key: str
    tensor: Tensor
    part: Part


def free_name(folder: Path, step: int) -> str:
    """The name of a step's checkpoint; one with a number where a run that was rolled back comes by a step again."""
    names = (f"step-{step:08}" + (f".{time:02}" if time else "") for time in count())
    return next(name for name in names if not (folder / name).exists())


def step_of(path: Path) -> int:
    """The step of a checkpoint, by its folder."""
    return int(path.name.removeprefix("step-").split(".")[0])


def found(folder: Path) -> list[Path]:
    """The folders of all checkpoints, newest first, whole or not."""
    return sorted(folder.glob("step-*"), reverse=True)


def write_rank(path: Path, rank: int, saved: Sequence[Saved]) -> None:
    """Writes what a rank has to write: its numbers, then what they are.

    Args:
        path: the checkpoint's folder.
        rank: which one it is.
        saved: in memory of the CPU, and not about to change.
    """
    by_key = {one.key: one for one in saved}
    kinds = kinds_of([(one.key, one.tensor) for one in saved])
    file = f"rank-{rank:05}.safetensors"
    with atomic_file(path / file) as opened:
        sha256 = write_tensors(opened, kinds, (by_key[key].tensor for key in in_order(kinds)))
    tensors = {
        one.key: {
            "shape": one.part.shape, "dtype": TYPES[one.tensor.dtype], "boxes": [asdict(piece) for piece in one.part.pieces()],
            "fingerprint": fingerprint(one.part, one.tensor),
        }
        for one in saved
    }  # fmt: skip
    write_json(path / f"rank-{rank:05}.json", {"file": file, "sha256": sha256, "tensors": tensors})


def write_manifest(path: Path, ranks: int, about: Mapping[str, Any]) -> None:
    """Says that a checkpoint is whole, once all ranks have written theirs.

    Raises:
        ArtifactError: the files of a rank cannot be seen.
    """
    sums: dict[str, str] = {}
    for rank in range(ranks):
        name = f"rank-{rank:05}.json"
        if not (path / name).exists():
            raise ArtifactError(f"{path / name} is not to be seen by rank 0; all ranks must write into one folder: choose a --store they share")
        index = read_json(path / name)
        sums |= {name: sha256_of(path / name), index["file"]: index["sha256"]}
    write_json(path / MANIFEST, _sealed({**about, "files": sums}))


def read_manifest(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        ArtifactError: it is torn, or not as it was written.
    """
    if not (path / MANIFEST).exists():
        raise ArtifactError(f"{path.name} is torn: it was being written when the run ended; {BACK}")
    damaged = ArtifactError(f"{path.name}/{MANIFEST} is damaged: its checksum is not the one written; {BACK}")
    try:
        manifest = read_json(path / MANIFEST)
    except ArtifactError:
        raise damaged from None
    if not isinstance(manifest, dict) or manifest != _sealed({name: value for name, value in manifest.items() if name != "sha256"}):
        raise damaged
    return manifest


def check_files(path: Path, sums: Mapping[str, str], names: Sequence[str]) -> None:
    """Raises `ArtifactError` unless these files of a checkpoint are as they were written."""
    for name in names:
        if not (path / name).exists() or sha256_of(path / name) != sums[name]:
            raise ArtifactError(f"{path.name}/{name} is damaged: its checksum is not the one written; {BACK}")


def remove(path: Path) -> None:
    """Deletes a checkpoint."""
    (path / MANIFEST).unlink(missing_ok=True)  # first, so that a kill in between leaves nothing that looks whole
    shutil.rmtree(path)


def _sealed(plain: dict[str, Any]) -> dict[str, Any]:
    told = json.dumps(plain, sort_keys=True).encode()
    return {**plain, "sha256": hashlib.sha256(told).hexdigest()}
