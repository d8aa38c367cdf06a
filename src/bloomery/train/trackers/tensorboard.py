"""`TensorBoard`: scalars in the artifact itself, for `tensorboard --logdir store`."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Mapping
from typing import Any

from bloomery.train.trackers.tracker import Session, Tracker

FOLDER = "tensorboard"  # in the run's own
FLUSH_EVERY_S = 10.0  # until TensorBoard sees new points


class TensorBoard(Tracker):
    """Event files, written without TensorBoard's summary API, whose import alone costs a second, and without its thread, whose errors nobody
    could catch.

    Each session of a run adds a file, which hides what earlier ones recorded beyond the step that it goes on from.
    """

    def __init__(self, session: Session) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        # pyrefly: ignore[missing-attribute] (protobuf makes the classes on import)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder = session.folder / FOLDER
        if session.step is None:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the sessions of a folder in order of their names
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "xb")  # noqa: SIM115 (closed by `close`)
        self._writer = RecordWriter(self._file)
        self._flushed = time.monotonic()
        self._add(file_version="brain.Event:2")
        # pyrefly: ignore[missing-attribute] (likewise)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=session.step + 1 if session.step else 0, session_log=start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        points = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step=step, summary=self._summary(value=points))

    def close(self) -> None:
        self._file.close()

    def _add(self, **fields: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        if time.monotonic() - self._flushed >= FLUSH_EVERY_S:
            self._flushed = time.monotonic()
            self._file.flush()
