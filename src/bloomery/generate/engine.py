"""`Engine`: many texts at once, which come and go while others are being written.

    every step   reads some of the prompts that wait, at most `PREFILL` tokens, so that the others do not wait long for theirs,
                 and goes on with every text that is under way: by one token, or by as many as a drafter has guessed right;
                 and with some of those that are searched for (see `Apart`)

A prompt is read by itself up to its last token, which is read beside those of all others. What was read of texts that are done is remembered
as long as there is room: a prompt that begins like one of them, as the next turn of a conversation does, is read from there on. Where the
pages of a pool run out, the shortest text gives its own back, and is read again when it has its turn.

Source: iteration-level scheduling: Yu et al. (2022), Orca, OSDI 22; prompts in pieces: Agrawal et al. (2023), arXiv 2308.16369; reuse of
prefixes: Zheng et al. (2023), arXiv 2312.07104, section 3; pages, and texts that are read again: Kwon et al. (2023), arXiv 2309.06180.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.generate.apart import Apart
from bloomery.generate.decode import PREFILL, read_on
from bloomery.generate.drafters import Drafter, Drawn, Guess
from bloomery.generate.jobs import Course, Job, Told
from bloomery.generate.picks import Picks
from bloomery.generate.prompts import room_behind
from bloomery.generate.room import Pages, Room, Rows
from bloomery.generate.speculate import read_guesses
from bloomery.models.model import CausalModel
from bloomery.nn.seen import Seen

AT_ONCE = 32  # places that texts are read at together with guesses, unless guesses are drawn: more cost more than they bring


class Engine:
    """Writes the texts of jobs. Not to be called by several threads at once.

    Args:
        model: its weights must not change meanwhile; one that reads no passage.
        ends: ids that end texts.
        vocab_size: of the tokenizer; ids from there on are never picked.
        rows: texts under way at a time.
        capacity: tokens of a prompt and its text together, at most; None is what the model reads.
        remembers: tokens of texts that are done with, altogether, whose states are kept.
        pool: tokens that all texts have room for together, in pages; None gives each row room for the longest.
        draft: guesses how texts go on; None for nothing. Those of jobs without `Picks` are not guessed.
        beams: rows that texts which are searched for read at once, beside those of the others.
    """

    def __init__(
        self, model: CausalModel, ends: Collection[int], vocab_size: int | None = None, rows: int = 32, capacity: int | None = None,
        remembers: int = 0, pool: int | None = None, draft: Drafter | None = None, beams: int = 16,
    ) -> None:
        if model.config.reads_passage:
            raise ConfigError(f"a {model.config.kind()} writes about passages, which an engine has no place for; take a decoder")
        longest = model.config.max_seq_len
        self.model, self.rows, self.capacity = model, rows, longest if capacity is None else min(capacity, longest)
        self._ends, self._vocab_size, self._draft = frozenset(ends), vocab_size, draft
        with torch.inference_mode():
            taken = model, rows, self.capacity, remembers
            self.room: Room = Rows(*taken) if pool is None else Pages(*taken, pool)
            self._guesser = None if draft is None else draft.ready(model, vocab_size or model.config.vocab_size)(rows, self.capacity)
        self._apart = Apart(model, self._ends, vocab_size, beams)
        self._live: list[Job] = []  # job i has row i
        self._waiting: deque[Job] = deque()
        self._read: tuple[Job, int] | None = None  # whose text is on the desk, and how much of it is read

    @property
    def waiting(self) -> int:
        """Jobs that have no row."""
        return len(self._waiting) + (self._read is not None) + self._apart.waiting

    @property
    def live(self) -> int:
        """Jobs under way."""
        return len(self._live) + self._apart.live

    def check(self, job: Job) -> None:
        """Raises `DataError` or `ConfigError` where the model cannot read the prompt of a job, or write as that wants; for any thread."""
        room_behind(self.model, job.prompt)
        if len(job.prompt) >= self.capacity:
            raise DataError(f"the prompt has {len(job.prompt)} tokens, and there is room for {self.capacity - 1} and one new one; shorten it")
        if isinstance(job.pick, Course):
            self._apart.check(job.pick)
        if job.contrast is not None:
            job.contrast.of(self.model)

    def add(self, job: Job) -> None:
        """Takes a job; raises what `check` raises."""
        self.check(job)
        job.limit = min(job.limit, self.capacity - len(job.prompt))
        (self._apart.add if isinstance(job.pick, Course) else self._waiting.append)(job)

    @torch.inference_mode()
    def drop(self, job: Job) -> None:
        """Forgets a job that nobody waits for any more; one that is done with already is none."""
        if job in self._live:
            self._free(self._live.index(job))
        elif self._read is not None and self._read[0] is job:
            self._read = None
            self.room.close()
        elif job in self._waiting:
            self._waiting.remove(job)
        else:
            self._apart.drop(job)

    @torch.inference_mode()
    def step(self) -> list[Job]:
        """Goes on with all, or some of those that are searched for; returns the jobs of which there is more than before."""
        under_way = len(self._live)
        return [*self._begin(), *self._write(), *self._apart.step(under_way)]

    def _begin(self) -> list[Job]:
        """Reads texts that wait; returns those of which no more is wanted."""
        budget, done = PREFILL, list[Job]()
        while budget > 0 and len(self._live) < self.rows and (reading := self._read or self._open()):
            job, start = reading
            ids, last = job.text.ids, len(self._live)
            end = min(len(ids) - 1, start + budget)
            if start < end:
                features = read_on(self.model, [ids[start:end]], [start], self.room.desk)
                if job.echoes and job.tells is not None and len(job.told) == start + 1:  # what is read once more is told already
                    job.tell(ids[start + 1 : len(job.prompt)], self.model.unembed(features[0]), self._vocab_size)
            budget -= max(1, end - start)
            self._read = (job, end) if end < len(ids) - 1 else None
            if self._read is None:
                self.room.seat(last, end)
                self._live.append(job)
                if self._guesser is not None:
                    self._guesser.join([ids])
                if job.limit <= 0:
                    job.ended = "length"
                    self._free(last)
                    done.append(job)
        return done

    def _open(self) -> tuple[Job, int] | None:
        """Puts the next text that waits on the desk, if there is one, and room for it; and how much of it needs not be read."""
        if not self._waiting:
            return None
        job = self._waiting[0]
        shared = self.room.open(job.text.ids, fresh=job.echoes)
        if shared is None:
            return None
        self._waiting.popleft()
        if not job.tokens:
            job.reused = shared
        if job.echoes and job.tells is not None and not job.told:
            job.told.append(Told(job.prompt[0], None, []))
        return job, shared

    def _write(self) -> list[Job]:
        """Goes on with every text under way."""
        self._make_room()
        jobs = list(self._live)
        if not jobs:
            return jobs
        texts, cache = [job.text for job in jobs], self.room.view(len(jobs))
        guess = Guess([[] for _ in jobs], [None for _ in jobs])
        if self._guesser is not None:
            guess = self._guesser.guess(texts, [self._most(job) for job in jobs], self._draw, cache)
        seen = None if all(job.contrast is None for job in jobs) else Seen()
        told = read_guesses(self.model, texts, guess.tokens, cache, seen)
        for row, job in reversed(list(enumerate(jobs))):  # a row that is freed gets the last one, which has gone on by then
            guessed, logits = guess.tokens[row], told[row]
            try:
                kept = job.check(self._contrast(job, told[row], row, seen), guessed, guess.by[row])
            except Exception as error:  # a rule that fails with one text is no matter of those beside it
                job.fault = error
                self._free(row)
                continue
            job.guessed += len(guessed)
            for number, (token, its) in enumerate(zip(kept, logits, strict=False)):
                job.take(token, its, self._ends, self._vocab_size)
                job.stood += number < len(kept) - 1
                if job.ended is not None:
                    self._free(row)
                    break
        return jobs

    def _contrast(self, job: Job, logits: Float[Tensor, "time vocab"], row: int, seen: Seen | None) -> Float[Tensor, "time words"]:
        """What a job is picked by, of the tokens that there are."""
        if job.contrast is not None and seen is not None:
            its = job.contrast.of(self.model)
            logits = its.contrast([seen.hidden[layer][row, : len(logits)] for layer in its.layers], logits)
        return logits[:, : self._vocab_size]

    def _most(self, job: Job) -> int:
        """Tokens of a job that may be guessed."""
        if self._draft is None or not isinstance(job.pick, Picks):
            return 0
        most = min(self._draft.n_tokens, job.limit - len(job.tokens) - 1)
        return most if self._draft.draws else min(most, max(0, AT_ONCE // len(self._live) - 1))

    def _draw(self, logits: Tensor, rows: Sequence[int], ahead: Sequence[Sequence[int]]) -> list[Drawn]:
        """A guess for each of some rows, as their own texts are picked."""
        jobs = [self._live[row] for row in rows]
        return [
            job.pick.guess(its[None, : self._vocab_size], [0], [tokens])[0]
            for job, its, tokens in zip(jobs, logits, ahead, strict=True) if isinstance(job.pick, Picks)
        ]  # fmt: skip

    def _make_room(self) -> None:
        """Sees to it that there is room for what is read next. Where there is none, the shortest text waits, to be read again."""
        row = 0
        while row < len(self._live):
            job = self._live[row]
            if self.room.grow(row, job.text.length + 1 + self._most(job)):
                row += 1
            else:
                shortest = min(range(len(self._live)), key=lambda at: self._live[at].text.length)
                self._waiting.appendleft(self._live[shortest])
                self._free(shortest)
                row = 0

    def _free(self, row: int) -> None:
        """Lets go of a row; the last one takes its place."""
        job, last = self._live[row], len(self._live) - 1
        ids = job.text.ids
        read = ids if job.ended == "end" else ids[:-1]
        length = self._live[last].text.length - 1
        self.room.leave(row, tuple(read), last, length)
        if self._guesser is not None:
            self._guesser.leave(row, last, length)
        self._live[row] = self._live[last]
        self._live.pop()
