"""`Repeats`: which keys occur more than once, and where, among more keys than fit in memory; and how keys travel in notes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

AT_ONCE = 4_000_000
"""Keys sorted at once: some 200 MB."""
BITS = 6  # of a key that say to which file of a spill it goes; the next ones where a file is still too large
DEEPEST = 64 - 3 * BITS  # where keys do not differ in those either, they are hardly different


def packed(values: np.ndarray, counts: np.ndarray) -> pa.LargeBinaryArray:
    """Numbers as one row of bytes for each of the counts: no slower than numpy's own arrays."""
    offsets = np.concatenate([[0], np.cumsum(counts)]) * values.itemsize
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(counts), [None, pa.py_buffer(offsets), pa.py_buffer(values)])


def unpacked(chunk: pa.LargeBinaryArray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """What `packed` packed: the numbers, and how many each row has."""
    if not len(chunk):
        return np.empty(0, dtype), np.empty(0, np.int64)
    offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1] // np.dtype(dtype).itemsize
    return np.frombuffer(chunk.buffers()[2], dtype)[offsets[0] : offsets[-1]], np.diff(offsets)


class Repeats:
    """The keys that occur more than once, bucket of keys by bucket of keys; can be gone through repeatedly.

    Up to `at_once` keys stay in memory; more go to files in `scratch` by their highest bits, until a file holds no more than that. What all
    copies of one key take is not bounded by it.

    Args:
        parts: uint64 keys, evenly distributed, and the int64 places where they are; places ascend, from part to part too.
        scratch: a folder for temporary files, which go by themselves.
        at_once: how many keys to sort at once.
    """

    def __init__(
        self, parts: Iterable[tuple[np.ndarray, np.ndarray]], scratch: Path, at_once: int = AT_ONCE, *, _shift: int = 64 - BITS,
    ) -> None:
        self._scratch, self._at_once, self._shift = scratch, at_once, _shift
        self._files: list[IO[bytes]] = []
        self._held: list[np.ndarray] = []
        waiting = 0
        for keys, places in parts:
            self._held.append(np.stack([keys, places.view(np.uint64)], axis=1))
            waiting += len(keys)
            if waiting > at_once and self._shift >= DEEPEST:
                self._spill()
                waiting = 0
        if self._files and self._held:
            self._spill()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Per bucket: all places of repeated keys, key after key and ascending; and where each key's places begin, with the end as last."""
        if not self._files:
            yield _grouped(np.concatenate([*self._held, np.empty((0, 2), np.uint64)]))
        for file in self._files:
            if file.tell() <= 16 * self._at_once:
                yield _grouped(np.concatenate([*_chunks(file, self._at_once), np.empty((0, 2), np.uint64)]))
            else:
                parts = ((chunk[:, 0], chunk[:, 1].view(np.int64)) for chunk in _chunks(file, self._at_once))
                yield from Repeats(parts, self._scratch, self._at_once, _shift=self._shift - BITS)

    def _spill(self) -> None:
        if not self._files:
            self._files = [tempfile.TemporaryFile(dir=self._scratch) for _ in range(1 << BITS)]  # noqa: SIM115 (they live as long as this)
        records = np.concatenate(self._held)
        bucket = (records[:, 0] >> np.uint64(self._shift) & np.uint64((1 << BITS) - 1)).astype(np.uint8)
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(np.bincount(bucket, minlength=1 << BITS))
        for file, mine in zip(self._files, np.split(records[order], ends[:-1]), strict=True):
            file.write(np.ascontiguousarray(mine).data)
        self._held = []


def _chunks(file: IO[bytes], rows: int) -> Iterator[np.ndarray]:
    end = file.tell()
    for start in range(0, end, 16 * rows):
        file.seek(start)
        chunk = file.read(min(16 * rows, end - start))
        file.seek(end)
        yield np.frombuffer(chunk, np.uint64).reshape(-1, 2)


def _grouped(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    records = records[np.argsort(records[:, 0], kind="stable")]
    again = records[1:, 0] == records[:-1, 0]
    none = np.zeros(1 if len(records) else 0, bool)
    repeated = np.concatenate([again, none]) | np.concatenate([none, again])
    new = (~np.concatenate([none, again]))[repeated]
    places = records[repeated, 1].view(np.int64)
    return places, np.append(np.flatnonzero(new), len(places))
