"""`Apart`: texts that are searched for, each in rows of its own beside an engine's, by a token at a time.

A search does not stop the texts beside it: between two of its steps all others go on. Searches take turns, and between two steps of an engine
as many of them as read about as many rows as that does: so neither waits long for the other. A prompt is read in pieces, as ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from bloomery.core.errors import DataError
from bloomery.generate.decode import PREFILL, random_numbers, read_on
from bloomery.generate.jobs import Course, Job, Told
from bloomery.generate.reading import Reading
from bloomery.generate.search import Terms
from bloomery.models.model import CausalModel

LEAST = 8  # rows that a step of a search counts as: to read fewer, and to copy what they have read, takes as long


class Apart:
    """Writes the texts of jobs whose `pick` is a `Course`.

    Args:
        model: its weights must not change meanwhile.
        ends: ids that end texts.
        vocab_size: of the tokenizer; ids from there on are never picked.
        rows: that all searches under way read at once.
    """

    def __init__(self, model: CausalModel, ends: frozenset[int], vocab_size: int | None, rows: int) -> None:
        self.rows = rows
        self._model, self._ends, self._vocab_size = model, ends, vocab_size
        self._waiting: deque[Job] = deque()
        self._going: deque[tuple[Job, Iterator[None]]] = deque()  # the next one first

    @property
    def waiting(self) -> int:
        """Searches that wait for rows."""
        return len(self._waiting)

    @property
    def live(self) -> int:
        """Searches under way."""
        return len(self._going)

    def check(self, course: Course) -> None:
        """Raises `DataError` where there is no room for a search."""
        if course.by.n_rows > self.rows:
            raise DataError(f"the search follows {course.by.n_rows} ways at once, and there is room for {self.rows}; follow fewer")

    def add(self, job: Job) -> None:
        """Takes a job."""
        self._waiting.append(job)

    def drop(self, job: Job) -> None:
        """Forgets a job, where it is one of these."""
        self._waiting = deque(one for one in self._waiting if one is not job)
        self._going = deque((one, steps) for one, steps in self._going if one is not job)

    def step(self, rows: int) -> list[Job]:
        """Goes on with the searches whose turn it is, each by a step, until they have read so many rows, and one at
        least; returns the jobs that are done."""
        while self._waiting and sum(rows_of(job) for job, _ in self._going) + rows_of(self._waiting[0]) <= self.rows:
            job = self._waiting.popleft()
            self._going.append((job, self._steps(job)))
        read, done = 0, list[Job]()
        for number in range(len(self._going)):
            if number and read >= rows:
                break
            job, steps = self._going.popleft()
            read += max(LEAST, rows_of(job))
            try:
                next(steps)
            except StopIteration:
                done.append(job)
            except Exception as error:  # whatever it is, the other texts have nothing to do with it
                job.fault = error
                done.append(job)
            else:
                self._going.append((job, steps))
        return done

    def _steps(self, job: Job) -> Iterator[None]:
        """Searches for a text, and reads it once more where it is to be told."""
        assert isinstance(job.pick, Course)
        tokens: list[int] = []
        if job.limit > 0:
            until = job.until
            model = self._model if job.contrast is None else job.contrast.of(self._model)
            terms = Terms(
                self._ends, [job.limit], [random_numbers(job.pick.seed)], job.pick.shapes, None if until is None else lambda _, new: until(new),
                (0,), self._vocab_size,
            )  # fmt: skip
            found = yield from job.pick.by.steps(Reading(model, [job.prompt], len(job.prompt) + job.limit), [job.prompt], terms)
            tokens = found[0][0].tokens
        stopped = bool(tokens) and job.until is not None and job.until(tokens)
        ended = "stop" if stopped else "length" if len(tokens) >= job.limit else "end"
        if job.tells is not None:
            yield from self._tell(job, [*job.prompt, *tokens, *(sorted(self._ends)[:1] if ended == "end" else [])])
        job.tokens.extend(tokens)
        job.ended = ended

    def _tell(self, job: Job, ids: list[int]) -> Iterator[None]:
        """What the model says of the tokens of a text, and of those of its prompt where that is asked for."""
        first = 1 if job.echoes else len(job.prompt)
        if job.echoes:
            job.told.append(Told(ids[0], None, []))
        if first == len(ids):
            return
        cache = self._model.new_cache(1, len(ids) - 1)
        for start in range(0, len(ids) - 1, PREFILL):
            piece = ids[start : min(start + PREFILL, len(ids) - 1)]
            features = read_on(self._model, [piece], [start], cache)[0]
            skipped = max(0, first - 1 - start)
            if skipped < len(piece):
                job.tell(ids[start + skipped + 1 :], self._model.unembed(features[skipped:]), self._vocab_size)
            yield


def rows_of(job: Job) -> int:
    """Rows that a search reads at once."""
    assert isinstance(job.pick, Course)
    return job.pick.by.n_rows
