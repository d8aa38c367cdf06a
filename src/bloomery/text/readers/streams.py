"""Bytes as they arrive: decompressed, cut at separators, never more of them in memory than allowed."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import zstandard

from bloomery.core.errors import DataError
from bloomery.core.units import human_bytes
from bloomery.text.readers.unpacked import UNPACK, BrokenError, Raw

CHUNK = 1 << 20
SLICE = 4096  # compressed bytes handed over at a time: bounds what a "bomb" of zeros can expand to at once

DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(31),
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
}


def chunks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The bytes of a file in chunks of about 1 MiB, decompressed according to its name.

    Raises:
        DataError: the compressed data is damaged or ends early.
    """
    if name.endswith(".lz4"):
        yield from _lz4(file, name)
        return
    make = next((make for suffix, make in DECOMPRESSORS.items() if name.endswith(suffix)), None)
    raw = iter(lambda: file.read(CHUNK), b"")
    if make is None:
        yield from raw
        return
    decompressor, parts, size, position, started = make(), [], 0, 0, False
    try:
        for block in raw:
            for start in range(0, len(block), SLICE):
                data = block[start : start + SLICE]
                while data:  # a file may hold several compressed members, one after the other
                    if decompressor.eof:
                        decompressor = make()
                    parts.append(decompressor.decompress(data))
                    size += len(parts[-1])
                    started = True
                    data = decompressor.unused_data if decompressor.eof else b""
                if size >= CHUNK:
                    yield b"".join(parts)
                    parts, size = [], 0
            position += len(block)
    except (zlib.error, zstandard.ZstdError, OSError, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{name} is damaged near its byte {position} ({error}); fetch or compress it again") from None
    yield b"".join(parts)
    if started and not decompressor.eof:
        raise DataError(f"{name} ends early: its compressed data was cut off at byte {position}; fetch or compress it again")


def _lz4(file: BinaryIO, name: str) -> Iterator[bytes]:
    raw = Raw(file)
    try:
        while raw.peek(1):
            yield from UNPACK["lz4"](raw)
    except BrokenError as error:
        raise DataError(f"{name} is damaged near its byte {raw.offset} ({error}); fetch or compress it again") from None


def pieces(stream: Iterator[bytes], separator: bytes, limit: int, too_long: Callable[[int], DataError]) -> Iterator[bytes]:
    """Cuts a stream at a separator, which is left out; what follows the last one is a piece unless it is empty.

    Args:
        separator: e.g. a newline.
        limit: bytes that a piece may have.
        too_long: makes the error for the piece of the given number, from 1.
    """
    rest, number = bytearray(), 0
    for chunk in stream:
        seen = max(0, len(rest) - len(separator) + 1)  # the separator may lie across two chunks
        rest += chunk
        if rest.find(separator, seen) >= 0:
            *done, last = bytes(rest).split(separator)
            rest = bytearray(last)
            for piece in done:
                number += 1
                if len(piece) > limit:
                    raise too_long(number)
                yield piece
        if len(rest) > limit:
            raise too_long(number + 1)
    if rest:
        yield bytes(rest)


def bounded_pieces(stream: Iterator[bytes], separator: bytes, limit: int) -> Iterator[bytes | int]:
    """Like `pieces`, but a piece that is longer than the limit is passed over, and comes as the number of its bytes."""
    rest, passed = bytearray(), 0
    for chunk in stream:
        seen = max(0, len(rest) - len(separator) + 1)
        rest += chunk
        if rest.find(separator, seen) >= 0:
            *done, last = bytes(rest).split(separator)
            rest = bytearray(last)
            for piece in done:
                size = passed + len(piece)
                yield piece if size <= limit else size
                passed = 0
        if passed + len(rest) > limit:
            keep = len(separator) - 1
            passed += len(rest) - keep
            del rest[: len(rest) - keep]
    if rest or passed:
        yield bytes(rest) if not passed else passed + len(rest)


def whole(stream: Iterator[bytes], name: str, limit: int) -> bytes:
    """All bytes of a stream; raises `DataError` when there are more than `limit`, without having read them."""
    parts, size = [], 0
    for chunk in stream:
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise DataError(
                f"{name} is longer than max_document_bytes={limit} ({human_bytes(limit)}) and would be one document; "
                "cut it with Files(separator=…), or raise max_document_bytes"
            )
    return b"".join(parts)


def decoded(data: bytes, encoding: str, name: str, offset: int = 0) -> str:
    """Bytes as text, without a byte order mark.

    Args:
        data: the bytes.
        encoding: a codec of Python's.
        name: the file, or file and line, for the error.
        offset: where in the file `data` begins, if it is not the beginning.

    Raises:
        DataError: the bytes are not in the encoding; it names the first wrong one and what to try.
    """
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        western = "cp1252" if any(0x80 <= byte < 0xA0 for byte in data) else "latin-1"
        guess = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else western
        wrong = f"0x{data[error.start]:02x}" if error.start < len(data) else "the end"
        raise DataError(f"{name} is not {encoding} at byte {offset + error.start} ({wrong}); try Files(encoding={guess!r})") from None


def bare(name: str) -> str:
    """A file's name without what says how it is compressed, in lower case."""
    name = name.lower()
    return next((name.removesuffix(s) for s in (*DECOMPRESSORS, ".lz4") if name.endswith(s)), name)
