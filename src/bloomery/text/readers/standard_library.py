"""`StandardLibrary`: the sources of Python's own library, which every machine that runs this has."""

from __future__ import annotations

import os
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bloomery.core.errors import DataError
from bloomery.text.documents import Document, in_batches
from bloomery.text.readers.reader import OnDamage, Reader, warn

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__", "lib-dynload"}


class StandardLibrary(Reader):
    """The modules of the running Python's standard library, one document each, without their tests.

    A corpus of some 10 MB of code and prose that needs no download. It counts in keys by the Python version.
    """

    packages: tuple[str, ...] = ()
    """Top-level modules or packages to read ("json", "asyncio"); empty means all."""

    def identity(self, path: str = "") -> dict[str, Any]:
        return super().identity(path) | {"python": f"{platform.python_implementation()} {platform.python_version()}"}

    def batches(self, after: str | None = None, on_damage: OnDamage = warn) -> Iterator[pa.RecordBatch]:
        files = self._files()
        if after is not None:
            files = files[[name for name, _ in files].index(after) + 1 :]
        yield from in_batches(Document(name, _source(path), name) for name, path in files)

    def total_bytes(self) -> int | None:
        return sum(path.stat().st_size for _, path in self._files())

    def _files(self) -> list[tuple[str, Path]]:
        root = Path(sysconfig.get_path("stdlib"))
        found: list[Path] = []
        for folder, inner, names in os.walk(root):
            inner[:] = [name for name in inner if name not in LEFT_OUT]
            found += [Path(folder, name) for name in names if name.endswith(".py")]
        kept = sorted((f"stdlib/{path.relative_to(root).as_posix()}", path) for path in found)
        top = {name: Path(name).parts[1].removesuffix(".py") for name, _ in kept}
        for package in self.packages:
            if package not in top.values():
                raise DataError(f"StandardLibrary.packages={self.packages!r}: {package!r} is not in {root}; 'json' and 'asyncio' would be")
        return [(name, path) for name, path in kept if not self.packages or top[name] in self.packages]


def _source(path: Path) -> str:
    with tokenize.open(path) as file:  # honours the coding cookie
        return file.read()
