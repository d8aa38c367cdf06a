"""Safetensors files written one tensor after the other, so that the whole never has to be in memory; read by the library as any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
"""What the format calls torch's types."""


class Kind(NamedTuple):
    """Type and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Kind:
        """Those of a tensor."""
        return cls(tensor.dtype, tuple(tensor.shape))

    @property
    def bytes(self) -> int:
        """What it takes in a file."""
        return prod(self.shape) * self.dtype.itemsize


def in_order(kinds: Mapping[str, Kind]) -> list[str]:
    """The names in the order in which a file holds them: the widest types first, so that all lie aligned, then by name."""
    return sorted(kinds, key=lambda name: (-kinds[name].dtype.itemsize, name))


def write_tensors(file: BinaryIO, kinds: Mapping[str, Kind], tensors: Iterable[Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Writes a safetensors file, byte for byte as the library does where all tensors are of one type.

    Args:
        file: open for writing.
        kinds: of every tensor, by name.
        tensors: in the order of `in_order(kinds)`; one is in memory at a time, if its maker lets go of it.
        metadata: free text by name.

    Returns:
        SHA-256 of the file in hex.

    Source: the safetensors format, https://github.com/huggingface/safetensors: eight bytes of length, a header in JSON, the numbers.
    """
    names, header, end = in_order(kinds), {"__metadata__": dict(metadata)} if metadata else {}, 0
    for name in names:
        start, end = end, end + kinds[name].bytes
        header[name] = {"dtype": TYPES[kinds[name].dtype], "shape": kinds[name].shape, "data_offsets": [start, end]}  # type: ignore[assignment]
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % 8)
    hashed = hashlib.sha256()
    for piece in (len(told).to_bytes(8, "little"), told):
        hashed.update(piece)
        file.write(piece)
    for name, tensor in zip(names, tensors, strict=True):
        assert Kind.of(tensor) == kinds[name], f"{name} is {Kind.of(tensor)} and should be {kinds[name]}"
        numbers: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        hashed.update(numbers)
        file.write(numbers)
    return hashed.hexdigest()


def type_named(name: str) -> torch.dtype:
    """The type that the format calls so."""
    return next(dtype for dtype, told in TYPES.items() if told == name)


def kinds_of(tensors: Sequence[tuple[str, Tensor]]) -> dict[str, Kind]:
    """Those of some tensors, by name."""
    return {name: Kind.of(tensor) for name, tensor in tensors}
