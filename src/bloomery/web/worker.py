"""`Worker`: the one thread that asks the model, and what carries jobs to it and tokens back."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bloomery.generate import Engine, Job
from bloomery.web.metrics import Metrics

T = TypeVar("T")


class BusyError(Exception):
    """There is no place for a job; says in how many seconds there may be."""

    def __init__(self, told: str, after_s: int = 1) -> None:
        super().__init__(told)
        self.after_s = after_s


class ClosingError(Exception):
    """The server is about to end and takes no more."""


@dataclass(eq=False)
class Ticket:
    """A job on its way.

    Attributes:
        job: what the worker goes on with, and nobody else until it is done.
        loop: where those live who wait for it.
        news: something each time that the job has more, or has ended: None, or what went wrong.
        came_s: when it was handed in.
        begun_s: when its first token, or its end, was there; None until then.
    """

    job: Job
    loop: asyncio.AbstractEventLoop
    news: asyncio.Queue[Exception | None] = field(default_factory=asyncio.Queue)
    came_s: float = field(default_factory=time.monotonic)
    begun_s: float | None = None


class Worker(threading.Thread):
    """Goes on with the jobs of an engine as long as there are any.

    Args:
        engine: asked by this thread only.
        queued: jobs that may wait for a row of the engine.
        metrics: where it notes what it does.

    Attributes:
        version: what the engine's weights are called, where others than it began with were sent.
    """

    def __init__(self, engine: Engine, queued: int, metrics: Metrics) -> None:
        super().__init__(name="model", daemon=True)
        self.engine, self.queued, self.metrics, self.version = engine, queued, metrics, ""
        self._inbox: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._tickets: dict[Job, Ticket] = {}  # of this thread
        self._held: list[Ticket] = []  # of this thread: they came while another engine waits for the texts under way
        self._next: tuple[Engine, str, Callable[[], object]] | None = None  # that engine, its version, and who wants to know that it is there
        self._taken, self._closing, self._lock = 0, False, threading.Lock()

    def submit(self, job: Job, loop: asyncio.AbstractEventLoop) -> Ticket:
        """Takes a job, or raises `BusyError` or `ClosingError`."""
        with self._lock:
            if self._closing:
                raise ClosingError("the server is about to end")
            if self._taken >= self.engine.rows + self.queued:
                raise BusyError(f"{self._taken} texts are under way or wait, and there is no place for more; ask again in a moment")
            self._taken += 1
        ticket = Ticket(job, loop)
        self._inbox.put(lambda: self._add(ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Has a job dropped that nobody waits for any more; one that is done is no more there."""
        self._inbox.put(lambda: self._drop(ticket))

    async def ask(self, call: Callable[[], T]) -> T:
        """What a call says that asks the model for something else than a text; between two steps."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def give() -> None:
            try:
                said: Any = call()
            except Exception as error:
                loop.call_soon_threadsafe(_settle, answer, None, error)
            else:
                loop.call_soon_threadsafe(_settle, answer, said, None)

        self._inbox.put(give)
        return await answer

    async def take(self, engine: Engine, version: str) -> None:
        """Has texts written by another engine from now on, whose weights have a name. Those under way are written to their end by the one that
        began them; who asks meanwhile waits. Not to be called again before it is done."""
        loop = asyncio.get_running_loop()
        there: asyncio.Future[None] = loop.create_future()

        def wait() -> None:
            self._next = engine, version, lambda: loop.call_soon_threadsafe(_settle, there, None, None)

        self._inbox.put(wait)
        await there

    async def tokens(self, ticket: Ticket) -> AsyncIterator[tuple[int, bool]]:
        """How many tokens there are, and whether that is all, each time that there are more. One who stops listening has the job dropped."""
        try:
            done = False
            while not done:
                if (error := await ticket.news.get()) is not None:
                    raise error
                done = ticket.job.ended is not None  # asked first: then there are no more tokens than are counted now
                yield len(ticket.job.tokens), done
        finally:
            self.cancel(ticket)

    def close(self) -> None:
        """Takes no more jobs; `run` ends when those that are there are done."""
        with self._lock:
            self._closing = True
        self._inbox.put(None)

    def run(self) -> None:
        """Until it is closed."""
        open_ = True
        while open_ or self._tickets or self._held:
            while open_ or not self._inbox.empty():
                try:
                    call = self._inbox.get(block=open_ and not self._tickets and self._next is None)
                except queue.Empty:
                    break
                if call is None:
                    open_ = False
                else:
                    call()
            if self._tickets:
                self._step()
            elif self._next is not None:
                self._change(*self._next)
            self.metrics.level(running=self.engine.live, waiting=self.engine.waiting)

    def _change(self, engine: Engine, version: str, done: Callable[[], object]) -> None:
        """From one engine to the next, between two texts."""
        self.engine, self.version, self._next, held, self._held = engine, version, None, self._held, []
        done()
        for ticket in held:
            self._add(ticket)

    def _add(self, ticket: Ticket) -> None:
        if self._next is not None:
            self._held.append(ticket)
            return
        try:
            self.engine.add(ticket.job)
        except Exception as error:
            self._done(ticket, error)
        else:
            self._tickets[ticket.job] = ticket

    def _drop(self, ticket: Ticket) -> None:
        if self._tickets.get(ticket.job) is ticket:
            self.engine.drop(ticket.job)
            self.metrics.count("cancelled")
            self._done(ticket, None)
        elif ticket in self._held:
            self._held.remove(ticket)
            self.metrics.count("cancelled")
            self._done(ticket, None)

    def _step(self) -> None:
        try:
            moved = self.engine.step()
        except Exception as error:
            for ticket in list(self._tickets.values()):
                self.engine.drop(ticket.job)
                self._done(ticket, error)
            return
        now = time.monotonic()
        for job in moved:
            ticket = self._tickets[job]
            if ticket.begun_s is None:
                ticket.begun_s = now
                self.metrics.observe("time_to_first_token", now - ticket.came_s)
                self.metrics.count("prompt_tokens", len(job.prompt))
                self.metrics.count("reused_tokens", job.reused)
            if job.fault is not None:
                self._done(ticket, job.fault)
            elif job.ended is None:
                self._tell(ticket, None)
            else:
                self.metrics.count("generated_tokens", len(job.tokens))
                self.metrics.count("guessed_tokens", job.guessed)
                self.metrics.count("accepted_tokens", job.stood)
                self._done(ticket, None)

    def _done(self, ticket: Ticket, error: Exception | None) -> None:
        self._tickets.pop(ticket.job, None)
        with self._lock:
            self._taken -= 1
        self._tell(ticket, error)

    def _tell(self, ticket: Ticket, said: Exception | None) -> None:
        try:
            ticket.loop.call_soon_threadsafe(ticket.news.put_nowait, said)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return


def _settle(answer: asyncio.Future[Any], said: Any, error: Exception | None) -> None:
    if not answer.done():
        if error is None:
            answer.set_result(said)
        else:
            answer.set_exception(error)
