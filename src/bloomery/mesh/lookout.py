"""`Lookout`: notices that a rank is gone or stuck, and says which one and where it was last seen, instead of waiting for it forever."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Literal, NamedTuple, Self

import torch.distributed as dist

from bloomery.core.errors import ResourceError
from bloomery.mesh.mesh import FIRST_TIMEOUT_S, Mesh

Phase = Literal["between steps", "reading rows", "forward and backward passes", "adding up gradients", "updating weights"]
PHASES: tuple[Phase, ...] = ("between steps", "reading rows", "forward and backward passes", "adding up gradients", "updating weights")

SLOWER = 10.0  # times the longest part of the step before: not even a busy machine is that much slower

SURELY = 15.0  # beats: of a thread that only has to say where it is
HEARD = 5.0  # beats after which all have heard what the first rank has found; it may keep all words, and takes them with it when it goes


class Word(NamedTuple):
    """The last word of a rank: where it was."""

    beat: int
    """Which word it is, counted from the first."""
    step: int
    phase: Phase
    waits: bool
    """Whether it was waiting for other ranks."""
    where: str
    """The function that it was in."""
    error: str
    """What made it leave; empty while it is there."""
    verdict: str
    """What it has found to be the matter with others."""

    @property
    def progress(self) -> tuple[int, int, bool]:
        """How far it had come: of ranks that wait for each other, the last one holds up the rest."""
        return self.step, PHASES.index(self.phase), self.waits

    def __str__(self) -> str:
        return f"in step {self.step}, {self.phase}" + (f", at {self.where}" if self.where else "")


class Lookout:
    """Keeps an eye on the ranks of a run. Each tells the store through which the ranks met, once in a while, where it is; where one comes no
    further, or is gone, the others read who it was, and leave.

    Used as a context manager around a training, from before its ranks connect to the end. It costs nothing where there is one rank only.

    Args:
        mesh: the ranks.
        patience_s: how long a part of a step may take, unless it took a tenth of that in the step before; the first step, and what lies between
            steps, may take `FIRST_TIMEOUT_S`.
        beat_s: seconds between words.
        silence_s: after so long in one place, whatever it is, a rank asks whether all others still speak.
        leave: how a process is ended whose main thread is stuck, told why.
    """

    def __init__(
        self, mesh: Mesh, patience_s: float = 120.0, beat_s: float = 1.0, silence_s: float = 60.0, leave: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.mesh, self.patience_s, self.beat_s, self.silence_s = mesh, patience_s, beat_s, silence_s
        self._leave = leave or end_process
        self._step, self._phase, self._since = 0, PHASES[0], time.monotonic()
        self._longest, self._usual = 0.0, FIRST_TIMEOUT_S  # seconds of the longest phase of this step, and of the one before
        self._beat = 0
        self._main = threading.get_ident()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._store: dist.Store | None = None

    def at(self, step: int, phase: Phase) -> None:
        """Where this rank is now: which step, from 1, and what of it."""
        now = time.monotonic()
        if self._phase != PHASES[0]:
            self._longest = max(self._longest, now - self._since)
        if step != self._step and self._step:
            self._longest, self._usual = 0.0, self._longest
        self._step, self._phase, self._since = step, phase, now

    def __enter__(self) -> Self:
        if not self.mesh.alone:
            self._store = meeting_place()
            self._main = threading.get_ident()
            self._tell()
            self._thread = threading.Thread(target=self._look, name="lookout", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._thread is None:
            return
        told = ""
        if error is not None and _lost_another(error):
            told = self._who_is_gone() or f"the connection to a rank broke in step {self._step}, {self._phase}, and none is gone; run again"
        self._over.set()
        self._thread.join()
        if told:
            self._conclude(told)
            raise ResourceError(told) from error
        if error is not None:
            self._tell(error=f"{type(error).__name__}: {error}")
        else:
            self._forget()

    def _look(self) -> None:
        while not self._over.wait(self.beat_s):
            self._tell()
            late = time.monotonic() - self._since
            patience_s = FIRST_TIMEOUT_S if self._phase == PHASES[0] else min(max(self.patience_s, SLOWER * self._usual), FIRST_TIMEOUT_S)
            told = self._heard()
            if not told and late > min(patience_s, self.silence_s):
                told = self._who_is_late(late) if late > patience_s else self._who_is_gone(SURELY)
            if told:
                self._conclude(told)
                self._leave(told)
                return

    def _tell(self, error: str = "", verdict: str = "") -> None:
        assert self._store is not None
        self._beat += 1
        frame = sys._current_frames().get(self._main)
        waits = self._phase == "adding up gradients" or _calls_others(frame)  # in that phase the device may wait, and the thread for it
        word = Word(self._beat, self._step, self._phase, waits, _where(frame), error, verdict)
        with contextlib.suppress(RuntimeError):  # the store is gone; what ranks do together will fail, too
            self._store.set(_key(self.mesh.rank), json.dumps(word))

    def _conclude(self, told: str) -> None:
        """Says what is the matter with others; the first rank stays until all have heard it."""
        self._tell(verdict=told)
        if self.mesh.leads:
            time.sleep(HEARD * self.beat_s)

    def _heard(self) -> str:
        """What the first rank has found to be the matter."""
        assert self._store is not None
        with contextlib.suppress(RuntimeError):  # as in `_tell`
            if self._store.check([_key(0)]):
                return Word(*json.loads(self._store.get(_key(0)))).verdict
        return ""

    def _forget(self) -> None:
        """Takes the last word back: who has come to the end is not gone."""
        assert self._store is not None
        with contextlib.suppress(RuntimeError):
            self._store.delete_key(_key(self.mesh.rank))

    def _words(self) -> dict[int, Word]:
        """Of all ranks that have said one."""
        assert self._store is not None
        ranks = [rank for rank in range(self.mesh.layout.world) if self._store.check([_key(rank)])]
        return {rank: Word(*json.loads(self._store.get(_key(rank)))) for rank in ranks}

    def _gone(self, beats: float) -> dict[int, Word]:
        """The ranks that have said nothing for some beats, this one aside."""
        before = self._words()
        until = time.monotonic() + beats * self.beat_s
        while time.monotonic() < until:  # and goes on speaking, for the others may be asking, too
            self._tell()
            time.sleep(self.beat_s / 2)
        after = self._words()
        silent = {rank: word for rank, word in after.items() if rank in before and word.beat == before[rank].beat}
        return {rank: word for rank, word in silent.items() if rank != self.mesh.rank}

    def _who_is_gone(self, beats: float = 2.5) -> str:
        try:
            return _first_of(self._gone(beats))
        except RuntimeError:
            return f"rank 0 is gone, and all last words with it; this rank was in step {self._step}, {self._phase}; run again"

    def _who_is_late(self, late: float) -> str:
        if told := self._who_is_gone():
            return told
        words = self._words()
        least = min(word.progress for word in words.values())
        last = {rank: word for rank, word in words.items() if word.progress == least}
        if least[1] == 0 and late < FIRST_TIMEOUT_S:  # it measures or saves, and takes its time
            return ""
        whose = " and ".join(f"rank {rank}" for rank in last)
        if not any(word.waits for word in words.values()):  # all are at work: it is a long step, and no rank holds up another
            return ""
        if len(last) == len(words):
            return f"no rank has come further in {late:.0f} s: all are {next(iter(last.values()))}; look at the network between them"
        return f"{whose} did not arrive in {late:.0f} s: last seen {next(iter(last.values()))}; look at the machine, and run again"


def meeting_place() -> dist.Store:
    """A connection of one's own to the store through which the ranks met."""
    store = dist.distributed_c10d._get_default_store().clone()  # type: ignore[missing-attribute] (torch's stubs lack it)
    store.set_timeout(timedelta(seconds=30))
    return dist.PrefixStore("lookout", store)


def end_process(told: str) -> None:
    """Says why, and ends a process whose main thread is stuck where no exception reaches it."""
    print(f"error: {told}", file=sys.stderr, flush=True)
    os._exit(ResourceError.exit_code)


def _key(rank: int) -> str:
    return f"word/{rank}"


def _first_of(gone: dict[int, Word]) -> str:
    """The sentence about ranks that are gone; whoever left with an error of its own is the reason for the rest."""
    if not gone:
        return ""
    for word in gone.values():
        if word.verdict:
            return word.verdict
    rank, word = min(gone.items(), key=lambda item: (not item[1].error, item[1].progress))
    return f"rank {rank} left {word}: {word.error}" if word.error else (
        f"rank {rank} is gone: last seen {word}; look for what ended it, and run again")  # fmt: skip


def _lost_another(error: BaseException) -> bool:
    """Whether an error is what torch says when another rank does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def _calls_others(frame: FrameType | None) -> bool:
    """Whether a stack is in a call to the other ranks."""
    while frame is not None:
        if frame.f_code.co_filename == dist.distributed_c10d.__file__:
            return True
        frame = frame.f_back
    return False


def _where(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f"{frame.f_code.co_name} ({os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})"
