"""Archives made for tests."""

from __future__ import annotations

import gzip
from collections.abc import Sequence


def record(
    body: bytes, kind: str = "response", length: object = None, http: str = "Content-Type: text/plain", url: str = "http://x.org/",
) -> bytes:
    """A record of a WARC file; `length` other than the truth is a lie."""
    block = f"HTTP/1.1 200 OK\r\n{http}\r\n\r\n".encode() + body if kind == "response" else body
    media = "application/http; msgtype=response" if kind == "response" else "text/plain"
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2020-01-02T03:04:05Z\r\nContent-Type: {media}\r\n"
    return f"{head}Content-Length: {len(block) if length is None else length}\r\n\r\n".encode() + block + b"\r\n\r\n"


def warc_gz(bodies: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """An archive with a member per record, and where the members begin and the last one ends."""
    members = [gzip.compress(record(body), mtime=0) for body in bodies]
    starts = [sum(map(len, members[:i])) for i in range(len(members) + 1)]
    return b"".join(members), starts
