"""What an archive holds behind its compression: one window of bytes that moves forward, past whatever is broken.

Archives are written as members, one behind the other, each compressed by itself (a record each, mostly), so that reading can begin at any of
them: behind `after`, and behind damage.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import zstandard

CHUNK = 1 << 18
SLICE = {"gzip": 4096, "zstd": 256}  # compressed bytes handed over at a time: bounds what a "bomb" of zeros can expand to at once
BACK = 1 << 18  # compressed bytes kept, in which the next member is looked for when one is found to be broken
MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}
SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".lz4": "lz4"}
SKIPPED_FRAMES = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # of zstd and lz4: for other programs
PROBE = 256  # unpacked bytes by which a member is told from a chance likeness


class Unpacked:
    """The unpacked bytes of an archive, from one of its members on.

    `window` holds what is unpacked and not yet dropped. When `fill` can give no more, `fault` says whether something is broken there; then
    `mend` goes on at the next member.

    Args:
        file: the archive.
        name: its name, for how it is packed where its first bytes do not say.
        is_start: whether a member that begins with these bytes can be the beginning of something; damage is passed over up to such a one.
        offset: where in the file to begin, at a member.
        inner: unpacked bytes of that member to leave out.
    """

    def __init__(self, file: BinaryIO, name: str, is_start: Callable[[bytes], bool], offset: int = 0, inner: int = 0) -> None:
        self._raw = Raw(file)
        self._packing = _packing(self._raw.peek(CHUNK), name, is_start)
        if offset:
            self._raw.seek(offset)
        self._is_start = is_start
        self._chunks = self._unpack()
        self._members: deque[tuple[int, int]] = deque()  # (unpacked, packed) beginnings of the members in and right before the window
        self._dropped = 0
        self.window = bytearray()
        self.fault: str | None = None
        while inner and self.fill(1):
            step = min(inner, len(self.window))
            self.drop(step)
            inner -= step

    def fill(self, size: int) -> bool:
        """Unpacks until the window has so many bytes; says whether it has."""
        while len(self.window) < size and self.fault is None:
            try:
                chunk = next(self._chunks, None)
            except BrokenError as error:
                self.fault = str(error)
                break
            if chunk is None:
                break
            self.window += chunk
        return len(self.window) >= size

    def drop(self, size: int) -> None:
        """Moves the window forward."""
        del self.window[:size]
        self._dropped += size
        while len(self._members) > 1 and self._members[1][0] <= self._dropped:
            self._members.popleft()

    def place(self) -> str:
        """Where the window begins: the offset of its member in the file, "+" and what of the member lies before it, if any does."""
        if not self._members:
            return str(self._raw.offset)
        unpacked, packed = self._members[0]
        inner = self._dropped - unpacked
        if self._packing is None:
            return str(packed + inner)
        return f"{packed}+{inner}" if inner else str(packed)

    def members(self, index: int = 0) -> Iterator[int]:
        """The indices of the window, from this one on, at which members begin."""
        return (unpacked - self._dropped for unpacked, _ in self._members if unpacked >= self._dropped + index)

    @property
    def packed(self) -> bool:
        """Whether it is compressed at all."""
        return self._packing is not None

    def mend(self) -> int:
        """Drops the window and what is broken, up to the next member that is whole at its beginning; returns the bytes of file passed over."""
        self.drop(len(self.window))
        begin = self._raw.offset
        start = self._members[-1][1] if self._members else begin
        self._members.clear()
        self.fault = None
        self._raw.back_to(start + 1)
        while True:
            found = self._raw.find(MAGIC[self._packing]) if self._packing else None
            if found is None:
                self._chunks = iter(())
                return self._raw.offset - start
            if self._is_start(self._probe()):
                break
            self._raw.take(1)
        self._chunks = self._unpack()
        return found - start

    def _probe(self) -> bytes:
        """The first unpacked bytes of what may be a member, of which nothing is used up."""
        mark = self._raw.offset
        found = b""
        try:
            for piece in UNPACK[self._packing or ""](self._raw):
                found += piece
                if len(found) >= PROBE:
                    break
        except BrokenError:
            pass
        self._raw.back_to(mark)
        return found

    def _unpack(self) -> Iterator[bytes]:
        """The members' bytes, one member after the other; raises `BrokenError` where something is not as it must be."""
        raw, waiting, size = self._raw, [], 0
        while head := raw.peek(4):
            if self._packing and not head.startswith(MAGIC[self._packing]):
                if waiting:
                    yield b"".join(waiting)
                    waiting, size = [], 0
                if SKIPPED_FRAMES.match(head) and self._packing in ("zstd", "lz4"):
                    raw.take(int.from_bytes(raw.peek(8)[4:8], "little") + 8)
                    continue
                if _only_zeros_left(raw):
                    return
                self._members.append((self._dropped + len(self.window), raw.offset))
                raise BrokenError(f"no {self._packing} member begins here")
            self._members.append((self._dropped + len(self.window) + size, raw.offset))
            try:
                for piece in UNPACK[self._packing or ""](raw):
                    waiting.append(piece)
                    size += len(piece)
                    if size >= CHUNK:
                        yield b"".join(waiting)
                        waiting, size = [], 0
            except BrokenError:
                if waiting:
                    yield b"".join(waiting)
                raise
        if waiting:
            yield b"".join(waiting)


class Raw:
    """A file read forward, of which the last bytes are kept, so that one can go back a little."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = bytearray()
        self._index = 0  # in `_bytes`
        self.offset = 0
        """Where in the file the next byte lies."""

    def peek(self, size: int) -> bytes:
        """The next bytes; fewer only at the end of the file."""
        while len(self._bytes) - self._index < size and (block := self._file.read(max(CHUNK, size))):
            surplus = self._index - BACK
            if surplus > 0:
                del self._bytes[:surplus]
                self._index -= surplus
            self._bytes += block
        return bytes(self._bytes[self._index : self._index + size])

    def take(self, size: int) -> bytes:
        """The next bytes, used up."""
        data = self.peek(size)
        self._index += len(data)
        self.offset += len(data)
        return data

    def give_back(self, size: int) -> None:
        """Takes back the last so many bytes."""
        self._index -= size
        self.offset -= size

    def back_to(self, offset: int) -> None:
        """Goes back to an offset, or as near to it as is kept."""
        self.give_back(min(self.offset - offset, self._index))

    def seek(self, offset: int) -> None:
        """Goes anywhere."""
        self._file.seek(offset)
        self._bytes.clear()
        self._index, self.offset = 0, offset

    def find(self, pattern: bytes) -> int | None:
        """Goes to the next place where these bytes are, or to the end of the file."""
        while len(data := self.peek(CHUNK)) >= len(pattern):
            at = data.find(pattern)
            self.take(at if at >= 0 else len(data) - len(pattern) + 1)
            if at >= 0:
                return self.offset
        self.take(len(data))
        return None


class BrokenError(Exception):
    """What is packed does not unpack; caught where damage is named."""


def _packing(head: bytes, name: str, is_start: Callable[[bytes], bool]) -> str | None:
    """How a file is packed, by its first bytes, or by its name where they look otherwise: "gzip", "zstd", "lz4", or not at all."""
    known = next((packing for packing, magic in MAGIC.items() if head.startswith(magic)), None)
    named = next((packing for suffix, packing in SUFFIXES.items() if name.endswith(suffix)), None)
    if named and head and not is_start(head) and (known is None or MAGIC[named] in head):
        return named
    return known


def _only_zeros_left(raw: Raw) -> bool:
    """Whether nothing but zeros follows, which tapes and downloads leave; they are used up then."""
    mark = raw.offset
    while data := raw.take(BACK // 4):
        if data.count(0) != len(data):
            raw.back_to(mark)
            return False
    return True


def _plain(raw: Raw) -> Iterator[bytes]:
    while data := raw.take(CHUNK):
        yield data


def _deflated(make: Callable[[], Any], slice_bytes: int) -> Callable[[Raw], Iterator[bytes]]:
    def unpack(raw: Raw) -> Iterator[bytes]:
        decompressor = make()
        while data := raw.take(slice_bytes):
            try:
                piece = decompressor.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise BrokenError(f"its compressed data is damaged ({error})") from None
            if decompressor.eof:
                raw.give_back(len(decompressor.unused_data))
            if piece:
                yield piece
            if decompressor.eof:
                return
        raise BrokenError("its compressed data is cut off")

    return unpack


class _Frame:
    """The bytes of one LZ4 frame, as a file. Its blocks' sizes are followed, so that nothing behind the frame is used up."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self.closed = False
        flags = raw.peek(5)[4:5] or b"\0"
        self._left = 7 + 8 * bool(flags[0] & 8) + 4 * bool(flags[0] & 1)  # of the piece at hand, which is the header first
        self._block_checksum, self._checksum = 4 * bool(flags[0] & 16), 4 * bool(flags[0] & 4)
        self.done = False

    def read(self, size: int = -1) -> bytes:
        if not self._left and not self.done:
            block = int.from_bytes(self._raw.peek(4), "little") & 0x7FFFFFFF
            self.done = not block
            self._left = 4 + (block + self._block_checksum if block else self._checksum)
        data = self._raw.take(min(self._left, size))
        self._left -= len(data)
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _lz4(raw: Raw) -> Iterator[bytes]:
    frame = _Frame(raw)
    try:
        with pa.CompressedInputStream(pa.PythonFile(frame, "r"), "lz4") as stream:
            while data := stream.read(CHUNK):
                yield data
        while frame.read(CHUNK):  # the checksum at its end
            pass
    except OSError as error:
        raise BrokenError(f"its compressed data is damaged ({str(error).splitlines()[0]})") from None
    if not frame.done:
        raise BrokenError("its compressed data is cut off")


UNPACK: dict[str, Callable[[Raw], Iterator[bytes]]] = {
    "": _plain,
    "gzip": _deflated(lambda: zlib.decompressobj(31), SLICE["gzip"]),
    "zstd": _deflated(lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(), SLICE["zstd"]),
    "lz4": _lz4,
}
