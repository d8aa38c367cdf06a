"""`Rollouts`: rows that the policy has written itself, from prompts that another source gives.

    round r    the rows of steps [r·every, (r + 1)·every), all written by the policy as it is at the first of them
    row i      sample i mod n of prompt i div n: a function of (seed, i, the prompt, the weights at its round's beginning)

So the state is a row number here, too. A round of one step is written anew wherever a run goes on, from the weights that the checkpoint has; a
longer one lies on the disk before its first step is made, since later checkpoints have other weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from safetensors.numpy import load, save
from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.units import Tokens
from bloomery.data.batch import Batch, Samples
from bloomery.data.source import Rows, Source, Span, Supply
from bloomery.generate import Draws, Random, complete_by
from bloomery.models import Model, causal
from bloomery.optim.batch import Batches
from bloomery.store.files import write_bytes
from bloomery.train.state import TrainState

AT_ONCE = 64  # rows that are written together: not the micro-batch, since logits round by their batch
KEPT = 2  # rounds in memory: the last one too is asked for, by who looks for documents to blame


class Rollout(Config):
    """How a policy writes the rows that it learns from. Each row of the training's own sources gives a prompt: what comes before the first
    token that is to be learnt there.
    """

    prompt_tokens: Tokens | None = None
    """Tokens of a document that are its prompt, where all of it would be learnt; None is what the encoding only has read."""
    max_new_tokens: Tokens
    """The most that are written to a prompt; the end of the row ends the text too."""
    sampler: Random = Random()
    """What tokens are drawn from: μ."""
    samples: Annotated[int, Ge(1)] = 1
    """Texts to each prompt, one row after the other."""
    every: Annotated[int, Ge(1)] = 1
    """Steps of a round; above 1 the later ones learn from what an older policy wrote."""


@dataclass(frozen=True, eq=False)
class Round:
    """Rows that one policy has written.

    Attributes:
        first_row: number of the first one.
        step: the policy's, when it wrote them.
        tokens: (rows, time + 1) of each row, from its first prompt token on.
        spans: (rows, 2): tokens of the prompt, and of prompt and completion together.
        logprobs: (rows, time + 1), log μ of the completions' tokens.
    """

    first_row: int
    step: int
    tokens: Int[np.ndarray, "rows time_1"]
    spans: Int[np.ndarray, "rows 2"]
    logprobs: Float[np.ndarray, "rows time_1"]

    def has(self, first_row: int, rows: int) -> bool:
        """Whether all of some rows are among them."""
        return self.first_row <= first_row and first_row + rows <= self.first_row + len(self.tokens)

    def rows(self, first_row: int, rows: int) -> tuple[Rows, Float[np.ndarray, "rows time"]]:
        """Some of the rows as arrays, and log μ of their targets."""
        part = slice(first_row - self.first_row, first_row - self.first_row + rows)
        tokens, (prompts, ends) = self.tokens[part], self.spans[part].T[:, :, None]
        place = np.arange(tokens.shape[1] - 1)
        learnt = (place >= prompts - 1) & (place < ends - 1)
        weight, segments = learnt.astype(np.float32), (place < np.maximum(ends - 1, 1)).astype(np.int64)
        return Rows(tokens[:, :-1], tokens[:, 1:], weight, segments), np.where(learnt, self.logprobs[part, 1:], 0).astype(np.float32)

    def to_bytes(self) -> bytes:
        """For a file."""
        return save({"tokens": self.tokens, "spans": self.spans, "logprobs": self.logprobs, "at": np.array([self.first_row, self.step])})

    @classmethod
    def of_bytes(cls, data: bytes) -> Round:
        """Back from a file."""
        found = load(data)
        first_row, step = found["at"].tolist()
        return cls(first_row, step, found["tokens"], found["spans"], found["logprobs"])


class Rollouts(Source):
    """Rows that the live policy writes to the prompts of a source. Their targets are learnt where they were drawn.

    Args:
        source: of the prompts, the first document of each of its rows.
        rollout: how texts are written.
        state: with the policy as it is, and the step that it is at.
        batches: which rows steps read.
        ends: the token that ends a text.
        pad: the token on places without one.
        vocab_size: of the tokenizer; ids from there on are never drawn.
        seed: of what is drawn.
        folder: where rounds of several steps lie, for runs that go on.
    """

    def __init__(
        self, source: Source, rollout: Rollout, state: TrainState, batches: Batches, *, ends: int, pad: int, vocab_size: int,
        seed: int, folder: Path,
    ) -> None:  # fmt: skip
        self.source, self.rollout, self.state, self.batches = source, rollout, state, batches
        self.ends, self.pad, self.seed, self.folder = ends, pad, seed, folder
        self.time, self.vocab_size = source.time, vocab_size
        self._rounds: list[Round] = []

    def batch(self, first_row: int, rows: int) -> Batch:
        batch = super().batch(first_row, rows)
        there = self._round(first_row, rows)
        logprobs = torch.from_numpy(there.rows(first_row, rows)[1])
        prompts = torch.arange(first_row, first_row + rows) // self.rollout.samples
        samples = Samples(logprobs, prompts, torch.full_like(prompts, self.state.step - there.step))
        return Batch(batch.tokens, batch.targets, batch.loss_weight, batch.layout, first_row, samples=samples)

    def rows(self, first_row: int, rows: int) -> Rows:
        return self._round(first_row, rows).rows(first_row, rows)[0]

    def documents(self, first_row: int, rows: int) -> list[Span]:
        """The documents that gave the prompts of these rows."""
        n = self.rollout.samples
        return [
            span._replace(row=row) for row in range(first_row, first_row + rows) for span in self.source.documents(row // n, 1)
            if span.place == 0
        ]  # fmt: skip

    def turns(self, first_row: int, rows: int) -> bool:
        first, last = (row // self.rollout.samples for row in (first_row, first_row + rows - 1))
        return self.source.turns(first, last - first + 1)

    def supply(self, rows: int) -> list[Supply]:
        return self.source.supply(-(-rows // self.rollout.samples))

    def _round(self, first_row: int, rows: int) -> Round:
        """The round that has these rows: from memory, from the disk, or written now."""
        for known in self._rounds:
            if known.has(first_row, rows):
                return known
        found = self._found(first_row, rows)
        if found is None:
            found = self._write(first_row, max(rows, self._rows_left()))
            if self.rollout.every > 1:
                write_bytes(self._path(first_row), found.to_bytes())
        self._rounds = [*self._rounds[1 - KEPT :], found]
        return found

    def _rows_left(self) -> int:
        """Rows that the steps from the present one to the end of its round read."""
        step, every = self.state.step, self.rollout.every
        return self.batches.rows_before((step // every + 1) * every) - self.batches.rows_before(step)

    def _path(self, first_row: int) -> Path:
        return self.folder / f"{first_row:012d}.safetensors"

    def _found(self, first_row: int, rows: int) -> Round | None:
        """A round on the disk that has these rows and was begun before this step."""
        paths = sorted(self.folder.glob("*.safetensors")) if self.rollout.every > 1 else []
        begun = [path for path in paths if int(path.stem) <= first_row]
        if not begun:
            return None
        there = Round.of_bytes(begun[-1].read_bytes())
        return there if there.has(first_row, rows) and there.step <= self.state.step else None

    def _write(self, first_row: int, rows: int) -> Round:
        numbers, most, n = range(first_row, first_row + rows), self.rollout.max_new_tokens, self.rollout.samples
        prompts = self._prompts(first_row // n, (first_row + rows - 1) // n)
        own = [prompts[number // n] for number in numbers]
        draws = sampled(self.state.model, own, numbers, self.rollout, self.seed, {self.ends}, self.vocab_size)
        tokens = np.full((rows, self.time + 1), self.pad, np.int64)
        logprobs, spans = np.zeros((rows, self.time + 1), np.float32), np.zeros((rows, 2), np.int64)
        for i, prompt in enumerate(own):
            new = draws.tokens[i][: min(most, self.time + 1 - len(prompt))]
            begin, end = len(prompt), len(prompt) + len(new)
            tokens[i, :end], logprobs[i, begin:end], spans[i] = [*prompt, *new], draws.logprobs[i][: len(new)], (begin, end)
        return Round(first_row, self.state.step, tokens, spans, logprobs)

    def _prompts(self, first: int, last: int) -> dict[int, list[int]]:
        """The prompts of these numbers."""
        rows = self.source.rows(first, last - first + 1)
        found = {}
        for i, (tokens, weight, segments) in enumerate(zip(rows.tokens, rows.loss_weight, rows.segments, strict=True)):
            real = int((segments == segments[0]).sum())
            learnt = np.append(np.flatnonzero(weight[:real]) + 1, real)  # what is read ends at the first token before one that is learnt
            read = int(learnt[0]) if self.rollout.prompt_tokens is None else self.rollout.prompt_tokens
            found[first + i] = tokens[: min(read, real, self.time - 1)].tolist()
        return found


def sampled(
    model: Model, prompts: Sequence[Sequence[int]], numbers: Sequence[int], rollout: Rollout, seed: int, stop_ids: set[int], vocab_size: int
) -> Draws:
    """What a model writes to prompts, row by row.

    Args:
        model: as it is; left in the mode in which it was.
        prompts: of each row.
        numbers: of the rows; their streams of random numbers are named by these.
        rollout: how.
        seed: of the streams.
        stop_ids: that end a text.
        vocab_size: ids are below it.
    """
    training = model.training
    model.eval()
    draws = Draws(rollout.sampler, seed, numbers, rollout.max_new_tokens)
    for start in range(0, len(prompts), AT_ONCE):
        part = prompts[start : start + AT_ONCE]

        def pick(logits: Tensor, rows: Sequence[int], start: int = start) -> Tensor:
            return draws(logits, [start + row for row in rows])

        complete_by(pick, causal(model), part, stop_ids, rollout.max_new_tokens, AT_ONCE, vocab_size)
    model.train(training)
    return draws


def check_rollout(rollout: Rollout, time: int, reads_prompts: bool) -> None:
    """Raises `ConfigError` where a row has no room for a text, or nothing says where prompts end.

    Args:
        rollout: how rows are written.
        time: tokens in a row.
        reads_prompts: whether the encoding of each corpus says what is only read.
    """
    if (rollout.prompt_tokens or 1) + rollout.max_new_tokens > time + 1:
        raise ConfigError(f"Train.rollout: {rollout.prompt_tokens or 1} tokens of a prompt and max_new_tokens={rollout.max_new_tokens} are "
                          f"more than a row of max_seq_len={time} and its last target; give longer rows, or fewer new tokens")  # fmt: skip
    if rollout.prompt_tokens is None and not reads_prompts:
        raise ConfigError("Train.rollout.prompt_tokens=None: nothing says where a prompt ends in a corpus of which all is learnt; give it a "
                          "number, or encode conversations as Chat()")  # fmt: skip
