"""`Journal`: what is done, line by line: what has been written is never lost, and half a line never read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bloomery.core.errors import ArtifactError
from bloomery.store.files import os_errors, sync_folder, write_text


class Journal:
    """A file of JSON lines that only grows. When `append` has returned, the lines are on the disk.

    Whoever was killed while writing leaves a last line without its end; it is cut off when the journal is next opened.

    Args:
        path: of the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115  (closed by `close`)
            self._file.seek(0)
            kept = self._file.read()
            whole = kept.rfind(b"\n") + 1
            if whole < len(kept):
                self._file.truncate(whole)
                os.fsync(self._file.fileno())
            sync_folder(path.parent)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The lines, in the order in which they were written.

        Raises:
            ArtifactError: one of them is no JSON.
        """
        self._file.seek(0)
        for number, line in enumerate(self._file.read().splitlines(), start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ArtifactError(f"{self.path}: line {number} is not JSON ({error}); delete it and run again") from None

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Writes some lines and waits for the disk."""
        with os_errors(self.path):
            self._file.write(_text(lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def settle(self, by: str) -> list[dict[str, Any]]:
        """The lines in the order of one of their fields; the file is written anew in that order, and has the same bytes however it grew."""
        lines = sorted(self, key=lambda line: line[by])
        self.close()
        write_text(self.path, _text(lines))
        return lines

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _text(lines: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
