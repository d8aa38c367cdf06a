"""What a run leaves for people to read, whatever tracker they use: JSON lines, and one line of progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bloomery.core.units import human_count, human_seconds
from bloomery.store.files import write_text
from bloomery.train.loop import StepReport

REDRAW_EVERY_S = 0.2


class Lines:
    """A file of JSON objects, one per line, each with its `step`; what lies beyond the step that a run goes on from is cut off, and so is what
    lies beyond the step that it is rolled back to.

    Args:
        path: the file, made if it isn't there.
        step: the last step whose lines are kept; −∞ where None, so that a run from the start begins with an empty file.
    """

    def __init__(self, path: Path, step: int | None) -> None:
        self._path, self._last = path, -1
        self._open(step)

    def write(self, step: int, **values: Any) -> None:
        """Adds a line, which readers see at once."""
        if step < self._last:
            self._file.close()
            self._open(step - 1)
        self._last = step
        self._file.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _open(self, step: int | None) -> None:
        """Opens the file at the end of what is kept of it."""
        path = self._path
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step] if step is not None and path.exists() else []
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)


class NoLines(Lines):
    """Lines that are not written, since another rank writes them."""

    def __init__(self) -> None:
        pass

    def close(self) -> None:
        pass

    def write(self, step: int, **values: Any) -> None:
        pass


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # a line that a kill cut in two
        return float("inf")


class Progress:
    """One line that is redrawn on a terminal; plain lines, rarely, elsewhere.

    Args:
        steps: of the whole run.
        plain: told a line after every step where there is no terminal; it is the one to hold back.
        quiet: show nothing.
    """

    def __init__(self, steps: int, plain: Callable[[str], None], quiet: bool = False) -> None:
        self.steps, self.plain = steps, plain
        self._bar: Any = None
        self._shown = time.monotonic()
        self._seconds: float | None = None
        if not quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(TextColumn("{task.description}"), BarColumn(), auto_refresh=False, transient=True)
            self._task = self._bar.add_task("training", total=steps)
            self._bar.start()

    def show(self, report: StepReport, utilisation: float) -> None:
        """Shows a step, unless one was shown a moment ago."""
        self._seconds = report.seconds if self._seconds is None else 0.95 * self._seconds + 0.05 * report.seconds
        now = time.monotonic()
        if self._bar and now - self._shown < REDRAW_EVERY_S and report.step < self.steps:
            return
        self._shown = now
        left = human_seconds(self._seconds * (self.steps - report.step))
        speed = f"{human_count(report.tokens_per_s)} tokens/s ({utilisation:.0%} of the matrix rate)"
        line = f"step {report.step}/{self.steps}  loss {report.loss:.3f}  {speed}  {left} left"
        if self._bar:
            self._bar.update(self._task, completed=report.step, description=line, refresh=True)
        else:
            self.plain(line)

    def close(self) -> None:
        """Takes the line away."""
        if self._bar:
            self._bar.stop()
