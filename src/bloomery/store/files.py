"""Writing files so that a reader sees either the old one or the whole new one, also after a power cut.

Every write goes to a temporary name in the same folder, is flushed to the disk (fsync), and is then renamed over the target; the folder is
flushed too, since a rename lives there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bloomery.core.errors import ArtifactError, BloomeryError, ResourceError

TEMPORARY = ".writing"  # suffix of files that no reader may trust


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; when the block ends without an exception, the file is flushed and becomes `path`.

    Who may read the folder may read the file.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")  # two processes never share one
    with os_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets nobody else read what it writes
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block ends without an exception, complete and on the disk."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file


def write_bytes(path: Path, data: bytes) -> str:
    """Writes atomically; returns the SHA-256 of `data` in hex."""
    with atomic_file(path) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def write_text(path: Path, text: str) -> str:
    """Writes UTF-8 atomically; returns its SHA-256 in hex."""
    return write_bytes(path, text.encode())


def write_json(path: Path, plain: Any) -> str:
    """Writes indented JSON atomically; returns its SHA-256 in hex."""
    return write_text(path, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parses a JSON file of ours.

    Raises:
        ArtifactError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; run the stage that makes it") from None
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}); delete its folder and run again") from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Flushes the folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a `ResourceError` that says what to do."""
    remedies: dict[int | None, str] = {
        errno.ENOSPC: "the disk is full; free some space or choose another --store",
        errno.EDQUOT: "the disk quota is used up; free some space or choose another --store",
        errno.EROFS: "the file system is read-only; choose another --store",
        errno.EACCES: "writing there is not permitted; choose another --store or change the folder's permissions",
        errno.EPERM: "writing there is not permitted; choose another --store or change the folder's permissions",
        errno.EEXIST: "a parent of it is a file, not a folder; choose another --store",
        errno.ENOTDIR: "a parent of it is a file, not a folder; choose another --store",
        errno.EFBIG: "the file would pass the size limit of this process; raise it (ulimit -f) or choose another --store",
    }
    try:
        yield
    except BloomeryError:
        raise
    except Exception as error:
        if (remedy := remedies.get(_error_number(error))) is not None:
            raise ResourceError(f"cannot write {path}: {remedy}") from error
        raise


def _error_number(error: Exception) -> int | None:
    """The operating system's number for an error, also where a library in Rust (safetensors, tokenizers) tells it only in its text."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None
