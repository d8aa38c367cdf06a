"""`Peak`: the most memory that something takes at a time, beyond what the process had before it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import torch

from bloomery.train.memory import kernel_fields

LOOK_S = 0.05  # how often memory is looked at where nobody keeps its highest level


class Peak:
    """Used as a context manager around what is measured; counts from where it is made.

    On a GPU, tensors are counted, by torch's allocator, which misses nothing. Elsewhere it is what the process has resident and is no file's,
    looked at every 50 ms: libraries' own data and the gaps that allocators leave are counted with it, what they had kept for later is not, and
    a shorter peak may be missed. Linux tells it, other systems do not.

    Args:
        device: where tensors are.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if self.counts == "tensors":
            torch.cuda.reset_peak_memory_stats(device)
        self._before = self._most = self._now()

    @property
    def counts(self) -> str:
        """What is counted: "tensors", or "resident" memory."""
        return "tensors" if self.device.startswith("cuda") else "resident"

    @property
    def bytes(self) -> int:
        """The most so far; 0 where nothing is told."""
        self._look()
        return self._most - self._before

    def __enter__(self) -> Self:
        if self.counts == "resident":
            self._thread = threading.Thread(target=self._watch, name="peak", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        self._most = max(self._most, torch.cuda.max_memory_allocated(self.device) if self.counts == "tensors" else self._now())

    def _now(self) -> int:
        if self.counts == "tensors":
            return torch.cuda.memory_allocated(self.device)
        return kernel_fields("/proc/self/status").get("RssAnon", 0)
