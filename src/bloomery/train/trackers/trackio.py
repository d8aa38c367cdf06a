"""`Trackio`: the light tracker from Hugging Face, on this machine or in a Space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.train.trackers.service import Service
from bloomery.train.trackers.tracker import Session


class Trackio(Service):
    """Trackio's project `bloomery`, on this machine unless Trackio is set up to send it elsewhere. A run is known again by its name."""

    extra = "trackio"

    @classmethod
    def package(cls) -> Any:
        try:
            import trackio  # pyrefly: ignore[missing-import] (an extra)
        except ImportError:
            raise cls.missing() from None
        return trackio

    def begin(self, session: Session) -> None:
        self._run = self.package().init(
            project="bloomery", name=session.run, config=dict(session.settings), resume="allow", embed=False, auto_log_cpu=False,
            auto_log_gpu=False,
        )  # fmt: skip

    def send(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def end(self) -> None:
        self._run.finish()
