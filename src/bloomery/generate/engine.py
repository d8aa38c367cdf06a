"""`Engine`: many texts at once, which come and go while others are being written.

    every step   reads some of the prompts that wait, at most `PREFILL` tokens, so that the others do not wait long for theirs,
                 and writes one token of every text that is under way

Rows of one cache, whose memory is taken once, are given to texts as they come; a row that is done with is filled by the last one, so that those
under way always stand side by side. What was read of texts that are done is remembered as long as there is room: a prompt that begins like one
of them, as the next turn of a conversation does, is read from there on.

Source: iteration-level scheduling: Yu et al. (2022), Orca, OSDI 22; prompts in pieces: Agrawal et al. (2023), arXiv 2308.16369; reuse of
prefixes: Zheng et al. (2023), arXiv 2312.07104, section 3. Departures: a row has room for the longest text, and prefixes are copied into it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.generate.decode import PREFILL, read_on
from bloomery.generate.picks import Picks
from bloomery.generate.prompts import room_behind
from bloomery.generate.samplers import Sampler
from bloomery.generate.stops import Stops
from bloomery.generate.writer import Decoding
from bloomery.models.model import CausalModel
from bloomery.nn.cache import Cache
from bloomery.text.tokenizer import Tokenizer

LEAST_SHARED = 16  # tokens that a prompt has in common with one that is remembered; fewer are read faster than copied


class Told(NamedTuple):
    """What the model, before sampler and rules, says of a token.

    Attributes:
        token: its id.
        logprob: its log-probability, in nats; None for the first token of a prompt, which nothing was before.
        likeliest: the likeliest tokens with theirs, the likeliest first.
    """

    token: int
    logprob: float | None
    likeliest: list[tuple[int, float]]


@dataclass(eq=False)
class Job:
    """A text that is to be written, and what there is of it.

    Attributes:
        prompt: token ids.
        pick: (1, vocab) logits → the next token's id.
        limit: the most that are written; 0 only reads the prompt.
        until: whether new tokens end the text, the last of them being part of it; None never does.
        tells: how many of the likeliest tokens are told with each token; None tells none of it.
        echoes: whether the prompt is part of what is asked for, so that its tokens are told too.
        tokens: what is written, but the token that ends texts.
        told: of each token that is told, in their order; the one that ends the text is among them.
        ended: by what; None while it goes on.
        reused: tokens of the prompt that were remembered.
    """

    prompt: Sequence[int]
    pick: Callable[[Tensor], int]
    limit: int
    until: Callable[[Sequence[int]], bool] | None = None
    tells: int | None = None
    echoes: bool = False
    tokens: list[int] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    ended: Literal["end", "stop", "length"] | None = None
    reused: int = 0


class Engine:
    """Writes the texts of jobs. Not to be called by several threads at once.

    Args:
        model: its weights must not change meanwhile; one that reads no passage.
        ends: ids that end texts.
        vocab_size: of the tokenizer; ids from there on are never picked.
        rows: texts under way at a time.
        capacity: tokens of a prompt and its text together, at most; None is what the model reads.
        remembers: tokens of texts that are done with, altogether, whose states are kept.
    """

    def __init__(
        self, model: CausalModel, ends: Collection[int], vocab_size: int | None = None, rows: int = 32, capacity: int | None = None,
        remembers: int = 0,
    ) -> None:
        if model.config.reads_passage:
            raise ConfigError(f"a {model.config.kind()} writes about passages, which an engine has no place for; take a decoder")
        longest = model.config.max_seq_len
        self.model, self.rows, self.capacity = model, rows, longest if capacity is None else min(capacity, longest)
        self._ends, self._vocab_size, self._remembers = frozenset(ends), vocab_size, remembers
        with torch.inference_mode():
            self._cache, self._desk = model.new_cache(rows, self.capacity), model.new_cache(1, self.capacity)
        self._live: list[Job] = []  # job i has row i
        self._waiting: deque[Job] = deque()
        self._read: tuple[Job, int] | None = None  # whose prompt is on the desk, and how much of it is read
        self._known: OrderedDict[tuple[int, ...], Cache] = OrderedDict()  # the one that was used last is the last

    @property
    def waiting(self) -> int:
        """Jobs whose prompts are not read."""
        return len(self._waiting) + (self._read is not None)

    @property
    def live(self) -> int:
        """Jobs under way."""
        return len(self._live)

    def add(self, job: Job) -> None:
        """Takes a job; raises `DataError` where the model cannot read its prompt."""
        room_behind(self.model, job.prompt)
        if len(job.prompt) >= self.capacity:
            raise DataError(f"the prompt has {len(job.prompt)} tokens, and there is room for {self.capacity - 1} and one new one; shorten it")
        job.limit = min(job.limit, self.capacity - len(job.prompt))
        self._waiting.append(job)

    @torch.inference_mode()
    def drop(self, job: Job) -> None:
        """Forgets a job that nobody waits for any more; one that is done with already is none."""
        if job in self._live:
            self._free(self._live.index(job))
        elif self._read is not None and self._read[0] is job:
            self._read = None
        elif job in self._waiting:
            self._waiting.remove(job)

    @torch.inference_mode()
    def step(self) -> list[Job]:
        """Goes on with all; returns the jobs of which there is more than before."""
        moved = self._write() if self._live else []
        budget, behind = PREFILL, list[Tensor]()  # what the head is to read of the prompts that are done: all at once
        while budget > 0 and len(self._live) < self.rows and (self._read is not None or self._waiting):
            job, start = self._read or self._begin()
            end = min(len(job.prompt), start + budget)
            features = read_on(self.model, [job.prompt[start:end]], [start], self._desk)
            if job.echoes and job.tells is not None:
                self._tell_prompt(job, start, self.model.unembed(features[0]), job.tells)
            budget -= end - start
            self._read = (job, end) if end < len(job.prompt) else None
            if self._read is None:
                self._cache.put(len(self._live), self._desk, 0, end)
                self._live.append(job)
                behind.append(features[:, -1])
                moved.append(job)
        if behind:
            self._take(range(len(self._live) - len(behind), len(self._live)), self.model.unembed(torch.cat(behind)))
        return moved

    def _begin(self) -> tuple[Job, int]:
        """Puts what is remembered of the next prompt on the desk."""
        job = self._waiting.popleft()
        most = len(job.prompt) - 1  # the last token is read in any case, for what comes behind it
        shared, best = 0, tuple[int, ...]()
        for known, cache in self._known.items() if not job.echoes else ():
            alike = common(known, job.prompt[:most])
            if alike > shared and (cache.by_place or alike == len(known)):
                shared, best = alike, known
        if shared >= LEAST_SHARED:
            self._known.move_to_end(best)
            self._desk.put(0, self._known[best], 0, shared)
            job.reused = shared
        elif not self._desk.by_place:
            self._desk = self.model.new_cache(1, self.capacity)  # a state that has read something cannot go back
        return job, job.reused

    def _write(self) -> list[Job]:
        """One token of every text under way."""
        jobs = list(self._live)
        new, starts = [[job.tokens[-1]] for job in jobs], [len(job.prompt) + len(job.tokens) - 1 for job in jobs]
        features = read_on(self.model, new, starts, self._cache.view(slice(0, len(jobs))))
        self._take(range(len(jobs)), self.model.unembed(features[:, -1]))
        return jobs

    def _take(self, rows: Sequence[int], logits: Float[Tensor, "rows vocab"]) -> None:
        """Picks the next token of some rows, and frees those that it ends."""
        logits = logits[:, : self._vocab_size]
        for row, its in reversed(list(zip(rows, logits, strict=True))):  # a row that is freed gets the last one, which has its token then
            job = self._live[row]
            if job.limit > 0:
                token = job.pick(its[None])
                if job.tells is not None:
                    job.told.append(told(its, token, job.tells))
                if token in self._ends:
                    job.ended = "end"
                else:
                    job.tokens.append(token)
                    if job.until is not None and job.until(job.tokens):
                        job.ended = "stop"
            if job.ended is None and len(job.tokens) >= job.limit:
                job.ended = "length"
            if job.ended is not None:
                self._free(row)

    def _free(self, row: int) -> None:
        """Lets go of a row; the last one takes its place."""
        job, last = self._live[row], len(self._live) - 1
        read = (*job.prompt, *job.tokens)[: len(job.prompt) + max(0, len(job.tokens) - (job.ended != "end"))]
        self._remember(read, row)
        if row < last:
            other = self._live[last]
            self._cache.put(row, self._cache, last, len(other.prompt) + len(other.tokens) - 1)
            self._live[row] = other
        self._live.pop()

    def _remember(self, read: tuple[int, ...], row: int) -> None:
        if not LEAST_SHARED <= len(read) <= self._remembers or read in self._known:
            return
        cache = self.model.new_cache(1, len(read))
        cache.put(0, self._cache, row, len(read))
        self._known[read] = cache
        while sum(map(len, self._known)) > self._remembers:
            self._known.popitem(last=False)

    def _tell_prompt(self, job: Job, start: int, logits: Float[Tensor, "time vocab"], count: int) -> None:
        """What the model says of the prompt's tokens from those before them."""
        if start == 0:
            job.told.append(Told(job.prompt[0], None, []))
        for token, its in zip(job.prompt[start + 1 :], logits, strict=False):  # the last ones tell what is written
            job.told.append(told(its[: self._vocab_size], token, count))


def told(logits: Float[Tensor, " vocab"], token: int, count: int) -> Told:
    """What logits say of a token, and which are the likeliest."""
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(count, len(logprobs)))
    return Told(token, float(logprobs[token]), list(zip(best.indices.tolist(), best.values.tolist(), strict=True)))


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def job_by(
    decoding: Decoding, tokenizer: Tokenizer, prompt: Sequence[int], seed: int = 0, tells: int | None = None, echoes: bool = False
) -> Job:
    """A text that is written as a `Writer` with this decoding writes it.

    Args:
        decoding: by a sampler.
        tokenizer: the model's.
        prompt: token ids.
        seed: of what the sampler draws.
        tells: see `Job`.
        echoes: see `Job`.

    Raises:
        ConfigError: it is by a search, or asks for what is no matter of a text alone; or a rule cannot be followed.
    """
    if not isinstance(decoding.by, Sampler):
        raise ConfigError(f"Decoding.by={decoding.by.kind()} needs all rows of a text at once, and an engine gives it one; take a sampler")
    if decoding.contrast is not None or decoding.draft is not None or decoding.reads != "forward":
        raise ConfigError("Decoding.contrast, .draft and .reads are of a whole engine, not of a text; leave them as they are")
    picks = Picks(decoding.by, [rule.ready(tokenizer) for rule in decoding.rules], [prompt], [seed], tokenizer.end)
    until = Stops(decoding.stops, tokenizer).ended_by if decoding.stops else None
    return Job(prompt, lambda logits: int(picks(logits, [0])), decoding.max_new_tokens, until, tells, echoes)
