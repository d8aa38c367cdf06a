"""What is asked of a run while it runs: to save, to leave. Ranks hear of it at different moments, and act on it after the same step."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple


class Wish(NamedTuple):
    """What is to happen after a step: of one rank as it sees it; of a step's report, what any of them has asked for before its update."""

    save: bool = False
    leave: bool = False

NONE = Wish()


class Notice:
    """Notes that a run has been asked to end, instead of ending: its process by SIGTERM, as schedulers send it some time before they kill, or
    anybody by a file that is put beside its work.

    Used as a context manager; in another thread than the first, which cannot be told of signals, it notes the file alone.

    Args:
        path: of the file; one that was there before the run is about another one, and is taken away. None heeds no file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._told = path, False
        self._before: Any = None
        self._forget()

    @property
    def given(self) -> bool:
        """Whether it has been asked."""
        return self._told or (self._path is not None and self._path.exists())

    def __enter__(self) -> Notice:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._told = True

    def _forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
