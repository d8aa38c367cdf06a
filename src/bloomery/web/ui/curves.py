"""`Curves`: what a training has told so far, from its `metrics.jsonl`, read further as it grows and thinned for the eye."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

POINTS = 2000  # of a curve, that a screen can tell apart
KNOWN = 64  # files that are kept in memory
NUMBERS, NONE = frozenset((int, float)), frozenset(("step", "tokens"))


class Curves:
    """The figures of one file, by name; each its steps and values, in the order in which they were told.

    Attributes:
        tokens: by step, how many had been read.
        last: the line of the last step.
        events: what was done about bad steps.
        noticed: what the watch of rewards has said.

    A run that was interrupted tells some steps anew: what it told before of them is taken back, as the run itself does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read, self._inode = 0, 0
        self._curves: dict[str, tuple[list[int], list[float]]] = {}
        self._spent: tuple[list[int], list[float]] = ([], [])  # seconds by step
        self.tokens: dict[int, int] = {}
        self.last: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.noticed: list[str] = []

    def read_on(self) -> None:
        """Takes in the lines that are new; a file that was written anew is read anew."""
        state = self.path.stat()
        if state.st_ino != self._inode or state.st_size < self._read:
            self.__init__(self.path)  # type: ignore[misc]
            self._inode = state.st_ino
        with open(self.path, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be half written
        self._read += len(whole)
        for told in _parsed(whole.splitlines()):
            if isinstance(told, dict) and isinstance(told.get("step"), int):
                self._take(told)

    def _take(self, told: dict[str, Any]) -> None:
        step = told["step"]
        if "tokens" in told:
            self.tokens[step] = told["tokens"]
            self.last = told
            self._spend(step, told["tokens"], told.get("tokens_per_s", 0))
        self.events += told.get("healing", [])
        self.noticed += [told["noticed"]] if "noticed" in told else []
        curves = self._curves  # what follows is done a million times for a long run
        for name, value in told.items():
            if type(value) not in NUMBERS or name in NONE:
                continue
            if (curve := curves.get(name)) is None:
                curve = curves[name] = ([], [])
            _append(curve, step, value)

    def _spend(self, step: int, tokens: int, speed: float) -> None:
        """Adds what a step took: its tokens / its tokens a second; those of a step of unknown speed count with the next."""
        if speed > 0:
            _cut(self._spent, step)
            steps, spent = self._spent
            before, until = (self.tokens[steps[-1]], spent[-1]) if steps else (0, 0.0)
            _append(self._spent, step, until + max(0, tokens - before) / speed)

    @property
    def names(self) -> list[str]:
        """Of all figures."""
        return list(self._curves)

    def all_of(self, name: str) -> list[tuple[int, float]]:
        """Every step and value of a figure; none where there is none of that name."""
        return list(zip(*self._curves.get(name, ((), ())), strict=True))

    def thinned(self, points: int = POINTS, after: int = -1) -> dict[str, dict[str, list[Any]]]:
        """Every figure as {"step": […], "tokens": […], "time": […], "value": […]}; times in seconds that were spent in steps until then.

        Args:
            points: of a curve at most: in each stretch of it the least and the greatest stay, so that no spike is lost.
            after: steps up to this one are left out.
        """
        found, (steps, spent) = {}, map(np.array, self._spent)
        for name, curve in self._curves.items():
            x, y = np.array(curve[0]), np.array(curve[1], dtype=float)
            x, y = x[x > after], y[x > after]
            if len(x):
                keep = extremes(y, points)
                shown = x[keep].tolist()
                time = np.interp(shown, np.r_[0, steps], np.r_[0, spent]).round(3).tolist()
                told = [None if not np.isfinite(value) else float(f"{value:.6g}") for value in y[keep].tolist()]
                found[name] = {"step": shown, "tokens": self._tokens_at(shown), "time": time, "value": told}
        return found

    def _tokens_at(self, steps: Sequence[int]) -> list[int | None]:
        return [0 if step == 0 else self.tokens.get(step) for step in steps]


def _parsed(lines: Sequence[bytes]) -> Iterator[Any]:
    """What lines of JSON say; those that are none are passed over."""
    try:
        yield from json.loads(b"[" + b",".join(lines) + b"]")  # many at once take half the time
    except ValueError:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _append(curve: tuple[list[int], list[float]], step: int, value: float) -> None:
    if curve[0] and curve[0][-1] >= step:
        _cut(curve, step)
    curve[0].append(step)
    curve[1].append(value)


def _cut(curve: tuple[list[int], list[float]], step: int) -> None:
    """Takes back what was told of a step, and of those behind it."""
    while curve[0] and curve[0][-1] >= step:
        curve[0].pop()
        curve[1].pop()


class Known:
    """The curves of many runs, each read once."""

    def __init__(self) -> None:
        self._curves: dict[Path, Curves] = {}

    def of(self, folder: Path) -> Curves | None:
        """Those of a run, as far as it has told; None where it tells none."""
        path = folder / "metrics.jsonl"
        if not path.is_file():
            return None
        curves = self._curves.pop(path, None) or Curves(path)
        self._curves[path] = curves
        while len(self._curves) > KNOWN:
            self._curves.pop(next(iter(self._curves)))
        curves.read_on()
        return curves


def extremes(values: np.ndarray, points: int) -> np.ndarray:
    """Places of at most so many values: the first, the last, and of each stretch the least and the greatest; one that is not finite stays."""
    if len(values) <= points:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), max(1, (points - 2) // 2) + 1).astype(int)
    keep = {0, len(values) - 1}
    for low, high in pairwise(edges.tolist()):
        part = values[low:high]
        least, greatest = np.where(np.isnan(part), np.inf, part), np.where(np.isnan(part), -np.inf, part)
        keep |= {low + int(np.argmin(least)), low + int(np.argmax(greatest))}
    return np.array(sorted(keep))


def lines_of(path: Path, most: int) -> list[Mapping[str, Any]]:
    """The last lines of a file of JSON lines, those that are whole; none where there is no file."""
    try:
        lines = path.read_bytes().splitlines()[-most:]
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]
