"""Who does the work on the parts of a corpus: this process, some processes of this machine, or a Ray cluster. The results are the same."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from bloomery.core.errors import ConfigError, ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2  # tasks handed out per worker: one to do and one to find ready
DEATHS = 3  # of worker processes, before it is taken for the work's own fault


class Executor(Protocol):
    """Does the same thing to many tasks."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results in the order of the tasks, which are drawn only a little ahead of the work.

        Functions and tasks travel to other processes. Work may be done twice, where a worker died; the function must not mind.
        """
        ...


class Processes(Executor):
    """Does the work in processes of this machine; a single task is done in this one. A worker that dies is replaced, and its work done anew.

    Args:
        workers: how many, at least 1.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        waiting = iter(tasks)
        first = list(islice(waiting, 2))
        if self.workers == 1 or len(first) < 2:
            return map(function, chain(first, waiting))
        return self._map(function, chain(first, waiting))

    def _map(self, function: Callable[[Task], Result], tasks: Iterator[Task]) -> Iterator[Result]:
        out: deque[tuple[Task, Future[Result]]] = deque()
        deaths, pool = 0, _pool(self.workers)
        try:
            while True:
                for task in islice(tasks, AHEAD * self.workers - len(out)):
                    out.append((task, _submit(pool, function, task)))
                if not out:
                    return
                try:
                    result = out[0][1].result()
                except BrokenProcessPool:
                    deaths += 1
                    if deaths == DEATHS:
                        raise ResourceError(
                            f"a worker process died {DEATHS} times, most likely for want of memory; use fewer workers, or smaller parts"
                        ) from None
                    pool.shutdown(wait=False, cancel_futures=True)
                    pool = _pool(self.workers)
                    out = deque((task, _submit(pool, function, task)) for task, _ in out)
                    continue
                out.popleft()
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Ray(Executor):
    """Does the work on a Ray cluster; the store must lie where all its machines can reach it by the same path.

    Args:
        address: of a running cluster ("auto", "ray://host:port"); "local" starts one on this machine.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str = "auto") -> None:
        try:
            import ray  # pyrefly: ignore[missing-import] (an extra)
        except ImportError:
            raise ConfigError(f"the executor Ray(address={address!r}) needs another package; pip install 'bloomery[cluster]'") from None
        self._ray: Any = ray
        if not ray.is_initialized():
            try:
                quietly = {"log_to_driver": False, "include_dashboard": False, "logging_level": logging.ERROR}
                ray.init(address=None if address == "local" else address, **quietly)
            except ConnectionError as error:
                raise ConfigError(f"no Ray cluster answers at {address!r} ({error}); run 'ray start --head', or use 'local'") from None

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        shared = self._ray.put(function)
        remote = self._ray.remote(max_retries=DEATHS)(_apply)
        ahead = max(AHEAD, int(AHEAD * self._ray.cluster_resources().get("CPU", 1)))
        out: deque[Any] = deque()
        for task in tasks:
            out.append(remote.remote(shared, task))
            if len(out) >= ahead:
                yield self._ray.get(out.popleft())
        while out:
            yield self._ray.get(out.popleft())


def _apply(function: Callable[[Task], Result], task: Task) -> Result:
    return function(task)


def _submit(pool: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Future[Result]:
    try:
        return pool.submit(function, task)
    except BrokenProcessPool as error:  # it broke before anybody looked: let the one who waits for the result find out
        failed: Future[Result] = Future()
        failed.set_exception(error)
        return failed


def _pool(workers: int) -> ProcessPoolExecutor:
    # not forked: the parent may have threads of Arrow's and torch's, whose locks a fork would copy in whatever state
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_mind_the_parent, initargs=(os.getpid(),))


def _mind_the_parent(parent: int) -> None:
    """A worker whose parent was killed goes, too: nobody would ever read its results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
