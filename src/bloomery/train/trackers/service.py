"""`Service`: a tracker that keeps figures elsewhere, and may be slow or gone."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping
from queue import Full, Queue
from typing import ClassVar

from bloomery.train.trackers.tracker import Session, Tracker

MOST_WAITING = 10_000  # writes that a service may lag behind


class Service(Tracker):
    """Is begun, told and ended in a thread of its own, so that training never waits for it; its errors come up at the next `write` or `close`.

    Subclasses write `package`, `begin`, `send` and `end`, which are all called in that thread.
    """

    patience_s: ClassVar[float] = 30.0
    """How long `close` waits for what the service has not taken yet."""

    def __init__(self, session: Session) -> None:
        self.package()
        self._waiting: Queue[tuple[int, Mapping[str, float]] | None] = Queue(MOST_WAITING)
        self._error: Exception | None = None
        # a daemon: a service that never answers must not keep the process alive
        self._thread = threading.Thread(target=self._work, args=(session,), name=type(self).__name__, daemon=True)
        self._thread.start()

    @abstractmethod
    def begin(self, session: Session) -> None:
        """Opens the service's run, or the one that an earlier session began."""

    @abstractmethod
    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Hands points over."""

    @abstractmethod
    def end(self) -> None:
        """Ends the session."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self._error is not None:
            raise self._error
        self._put((step, dict(values)))

    def close(self) -> None:
        if self._error is None:
            self._put(None)
            self._thread.join(self.patience_s)
            if self._thread.is_alive():
                raise TimeoutError(f"it did not take the last figures within {self.patience_s:g} s")
        if self._error is not None:
            raise self._error

    def _put(self, item: tuple[int, Mapping[str, float]] | None) -> None:
        try:
            self._waiting.put_nowait(item)
        except Full:
            raise TimeoutError(f"it lags {MOST_WAITING} writes behind") from None

    def _work(self, session: Session) -> None:
        try:
            self.begin(session)
            while (item := self._waiting.get()) is not None:
                self.send(*item)
            self.end()
        except Exception as error:
            self._error = error
