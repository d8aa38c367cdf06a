"""What is asked of a run while it runs: to save, to leave. Ranks hear of it at different moments, and act on it after the same step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NamedTuple


class Wish(NamedTuple):
    """What is to happen after a step: of one rank as it sees it; of a step's report, what any of them has asked for before its update."""

    save: bool = False
    leave: bool = False

NONE = Wish()


class Notice:
    """Notes that the process has been asked to end (SIGTERM, as schedulers send it some time before they kill), instead of ending.

    Used as a context manager; in another thread than the first, which cannot be told of signals, it notes nothing.

    Attributes:
        given: whether it has been asked.
    """

    def __init__(self) -> None:
        self.given = False
        self._before: Any = None

    def __enter__(self) -> Notice:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.given = True
