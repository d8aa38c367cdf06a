"""`Metrics`: counts, levels and times of a server, in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COUNTS = {
    "prompt_tokens": "Tokens of prompts that were read or reused.",
    "reused_tokens": "Tokens of prompts whose states were remembered.",
    "generated_tokens": "Tokens that were written.",
    "guessed_tokens": "Tokens that a drafter has guessed.",
    "accepted_tokens": "Tokens that a drafter has guessed right.",
    "cancelled": "Texts that nobody waited for any more.",
}
TIMES = {
    "time_to_first_token": "Seconds from a request's arrival to its first token.",
    "request": "Seconds from a request's arrival to its answer, or to the beginning of a streamed one.",
}
LEVELS = {"running": "Texts under way.", "waiting": "Texts whose prompts are not read yet."}


class Metrics:
    """What is noted by any thread, and told as a page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self._levels: dict[str, float] = dict.fromkeys(LEVELS, 0.0)
        self._times = {name: _Times() for name in TIMES}
        self._answers: Counter[tuple[str, int]] = Counter()

    def count(self, name: str, by: int = 1) -> None:
        """Adds to one of `COUNTS`."""
        with self._lock:
            self._counts[name] += by

    def level(self, **levels: float) -> None:
        """Sets some of `LEVELS`."""
        with self._lock:
            self._levels.update(levels)

    def observe(self, name: str, seconds: float) -> None:
        """Notes one of `TIMES`."""
        with self._lock:
            self._times[name].add(seconds)

    def answered(self, path: str, status: int) -> None:
        """Counts an answer."""
        with self._lock:
            self._answers[path, status] += 1

    def text(self) -> str:
        """All of it. Format: Prometheus, "Exposition formats", version 0.0.4."""
        with self._lock:
            lines = []
            for name, told in COUNTS.items():
                lines += [*_head(f"bloomery_{name}_total", told, "counter"), f"bloomery_{name}_total {self._counts[name]}"]
            for name, told in LEVELS.items():
                lines += [*_head(f"bloomery_{name}", told, "gauge"), f"bloomery_{name} {self._levels[name]:g}"]
            lines += _head("bloomery_requests_total", "Answers by path and status.", "counter")
            lines += [f'bloomery_requests_total{{path="{path}",status="{status}"}} {n}' for (path, status), n in sorted(self._answers.items())]
            for name, told in TIMES.items():
                lines += _head(f"bloomery_{name}_seconds", told, "histogram") + self._times[name].lines(f"bloomery_{name}_seconds")
        return "\n".join(lines) + "\n"


class _Times:
    """How many times are below each bound."""

    def __init__(self) -> None:
        self.within, self.total, self.number = [0] * len(BOUNDS_S), 0.0, 0

    def add(self, seconds: float) -> None:
        self.within = [n + (seconds <= bound) for n, bound in zip(self.within, BOUNDS_S, strict=True)]
        self.total, self.number = self.total + seconds, self.number + 1

    def lines(self, name: str) -> list[str]:
        buckets = [f'{name}_bucket{{le="{bound:g}"}} {n}' for n, bound in zip(self.within, BOUNDS_S, strict=True)]
        return [*buckets, f'{name}_bucket{{le="+Inf"}} {self.number}', f"{name}_sum {self.total:.6f}", f"{name}_count {self.number}"]


def _head(name: str, told: str, kind: str) -> list[str]:
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
