"""`Reader`: any box of any tensor of a checkpoint, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from bloomery.core.errors import ArtifactError
from bloomery.mesh import Part
from bloomery.mesh.part import Piece, box
from bloomery.models.tensor_file import type_named
from bloomery.store.files import read_json
from bloomery.train.checkpoints.fingerprint import summed_up

SLOTS = "optimizer/"


class Written(NamedTuple):
    """What one rank wrote of a tensor."""

    file: str
    boxes: tuple[Piece, ...]


class Reader:
    """The tensors of a checkpoint whose files have been checked.

    Args:
        path: its folder.
        files: the names of its files.
    """

    def __init__(self, path: Path, files: Sequence[str]) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, torch.dtype] = {}
        self._prints: dict[str, list[int]] = {}
        self._written: dict[str, list[Written]] = {}
        self._slots: dict[str, list[str]] = {}
        self._open: dict[str, Any] = {}
        for name in files:
            if name.endswith(".json"):
                self._note(read_json(path / name))
        for key in sorted(self.shapes):
            if key.startswith(SLOTS):
                name, slot = key.removeprefix(SLOTS).rsplit("|", 1)
                self._slots.setdefault(name, []).append(slot)

    def _note(self, index: Mapping[str, Any]) -> None:
        for key, told in index["tensors"].items():
            self.shapes[key], self._types[key] = tuple(told["shape"]), type_named(told["dtype"])
            boxes = tuple(Piece(**{name: tuple(numbers) for name, numbers in one.items()}) for one in told["boxes"])
            self._written.setdefault(key, []).append(Written(index["file"], boxes))
            self._prints.setdefault(key, []).append(told["fingerprint"])

    def fingerprint(self, key: str) -> int:
        """That of the whole tensor."""
        return summed_up(self._prints[key])

    def slots(self, name: str) -> list[str]:
        """The slots that the optimiser's state has for a parameter."""
        return self._slots.get(name, [])

    def read(self, key: str, part: Part) -> Tensor:
        """A part of a tensor; nothing else of it is read.

        Raises:
            ArtifactError: the checkpoint has no such tensor.
        """
        if self.shapes.get(key) != part.shape:
            raise ArtifactError(f"{self.path.name} has {key} as {self.shapes.get(key)}, not {part.shape}; it belongs to another model")
        out, missing = torch.empty(part.local_shape, dtype=self._types[key]), prod(part.local_shape)
        for written in self._written[key]:
            for theirs, ours, shape in _overlaps(written.boxes, part):
                box(out, ours, shape).copy_(self._slice(written.file, key, theirs, shape))
                missing -= prod(shape)
        if missing:
            raise ArtifactError(f"{self.path.name} lacks {missing} numbers of {key}; delete the folder and run again")
        return out

    def _slice(self, file: str, key: str, start: Sequence[int], shape: Sequence[int]) -> Tensor:
        if file not in self._open:
            self._open[file] = safe_open(self.path / file, "pt")
        if not shape:
            return self._open[file].get_tensor(key)
        return self._open[file].get_slice(key)[tuple(slice(at, at + length) for at, length in zip(start, shape, strict=True))]


def _overlaps(boxes: Sequence[Piece], part: Part) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """What boxes in a file and a part have in common: where it begins in the file's tensor, where in the part, and its shape."""
    for theirs in boxes:
        for ours in part.pieces():
            low = tuple(map(max, theirs.start, ours.start))
            ends = (tuple(at + length for at, length in zip(one.start, one.shape, strict=True)) for one in (theirs, ours))
            shape = tuple(high - at for at, high in zip(low, map(min, *ends), strict=True))
            if all(length > 0 for length in shape):
                yield _inside(theirs, low), _inside(ours, low), shape


def _inside(piece: Piece, at: tuple[int, ...]) -> tuple[int, ...]:
    """Where a place of the whole is in the part that a box belongs to."""
    return tuple(place - start + local for place, start, local in zip(at, piece.start, piece.local, strict=True))
