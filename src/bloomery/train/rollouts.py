"""`Rollouts`: rows that the policy has written itself, from prompts that another source gives.

    round r    the rows of steps [r·every, (r + 1)·every), all written by the policy as it is at the first of them
    text j     sample j mod n of prompt j div n: a function of (seed, j, the prompt, the weights at its round's beginning)
    row i      text i; where a round is learnt from in several epochs, one of the i div epochs texts of its round, in the order of its epoch

So the state is a row number here, too. A round of one step is written anew wherever a run goes on, from the weights that the checkpoint has; a
longer one lies on the disk before its first step is made, since later checkpoints have other weights; and so does each that another engine has
written, which would not write it again to the bit. What texts earn, and what their tokens are worth, is part of the round: worked out once,
over all of it. Ranks that read other rows each write their share of the texts, and then have all of them; each judges the whole round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load, save

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.rng import numpy_rng
from bloomery.core.units import Tokens
from bloomery.data.batch import Batch, Samples
from bloomery.data.source import Rows, Source, Span, Supply
from bloomery.generate import Random
from bloomery.mesh import Mesh
from bloomery.objectives import Objective, OfSamples, terms_of
from bloomery.optim.batch import Batches
from bloomery.store.files import write_bytes
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.earnings import Earnings, Earns, Judged, Scores, told
from bloomery.train.engines import OwnEngine, Reach, RolloutEngine, Wanted
from bloomery.train.rewards import Answer
from bloomery.train.state import TrainState

POSSIBLE = 0.95  # of the tokens that another engine has drawn, at least, for the policy
LOOKED_AT = 16  # texts of a round by another engine that the policy reads once more
Prompts = dict[int, tuple[list[int], list[int]]]
"""Number of a prompt → its tokens, and how its document goes on."""
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
    """Steps of a round; above 1 the later ones learn from what an older policy wrote, at most every − 1 steps ago."""
    epochs: Annotated[int, Ge(1)] = 1
    """How often each text of a round is learnt from; divides `every`."""
    earns: Earns | None = None
    """What texts earn, for losses that learn from that; None has nobody judge them."""
    engine: RolloutEngine = OwnEngine()
    """Who writes: `OwnEngine()`, this training itself; or servers beside it that get the weights before each round, `BloomeryEngine()` or
    `VLLMEngine()`, whose addresses --engine-url says."""
    again: Annotated[int, Ge(0)] = 0
    """How often those texts of a round are written anew, each group to another prompt, of whose group all have earned the same: they teach
    nothing where credit is relative to the group. See Yu et al. (2025), DAPO, arXiv 2503.14476, section 3.2."""

    def check(self) -> None:
        if self.again and (self.earns is None or self.samples == 1):
            raise self.refuse("again", "is for groups of texts that earn the same, and there are none; give earns and samples, or set it to 0")
        if self.every % self.epochs:
            below = self.every // self.epochs * self.epochs
            raise self.refuse("epochs", f"does not part a round of every={self.every} steps evenly; every={below or self.epochs} would do")
        self.engine.check_sampler(self.sampler)

    @property
    def kept(self) -> bool:
        """Whether rounds lie on the disk before they are learnt from."""
        return self.every > 1 or not self.engine.exact


@dataclass(frozen=True, eq=False)
class Round:
    """Rows that one policy has written.

    Attributes:
        first_row: number of the first one.
        step: the policy's, when it wrote them.
        order: (rows,) the text that each row has, by its place among the texts.
        numbers: (texts,) the number of each text, over all rounds.
        tokens: (texts, time + 1) of each text, from its first prompt token on.
        spans: (texts, 2): tokens of the prompt, and of prompt and completion together.
        logprobs: (texts, time + 1), log μ of the completions' tokens.
        judged: what they have earned; None where nobody judges them.
        apart: |log μ − log π| of the tokens of some texts on the mean, in nats; None where the policy itself has written.
    """

    first_row: int
    step: int
    order: Int[np.ndarray, " rows"]
    numbers: Int[np.ndarray, " texts"]
    tokens: Int[np.ndarray, "texts time_1"]
    spans: Int[np.ndarray, "texts 2"]
    logprobs: Float[np.ndarray, "texts time_1"]
    judged: Judged | None = None
    apart: float | None = None

    def has(self, first_row: int, rows: int) -> bool:
        """Whether all of some rows are among them."""
        return self.first_row <= first_row and first_row + rows <= self.first_row + len(self.order)

    def which(self, first_row: int, rows: int) -> Int[np.ndarray, " rows"]:
        """The texts that some of the rows have."""
        return self.order[first_row - self.first_row : first_row - self.first_row + rows]

    def texts(self, which: Int[np.ndarray, " rows"]) -> tuple[Rows, Float[np.ndarray, "rows time"]]:
        """Some of the texts as rows, and log μ of their targets."""
        tokens, (prompts, ends) = self.tokens[which], self.spans[which].T[:, :, None]
        place = np.arange(tokens.shape[1] - 1)
        drawn = (place >= prompts - 1) & (place < ends - 1)
        learnt = drawn if self.judged is None else drawn & self.judged.counts[which, None]
        weight, segments = learnt.astype(np.float32), (place < np.maximum(ends - 1, 1)).astype(np.int64)
        return Rows(tokens[:, :-1], tokens[:, 1:], weight, segments), np.where(drawn, self.logprobs[which, 1:], 0).astype(np.float32)

    def with_texts(self, where: Bool[np.ndarray, " texts"], other: Round) -> Round:
        """The round with other texts in some places."""
        found = {name: getattr(self, name).copy() for name in ("numbers", "tokens", "spans", "logprobs")}
        for name, array in found.items():
            array[where] = getattr(other, name)
        return replace(self, **found)

    def to_bytes(self) -> bytes:
        """For a file."""
        judged = {} if self.judged is None else {f"judged.{name}": array for name, array in self.judged.to_arrays().items()}
        own = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        arrays = own | judged | {"at": np.array([self.first_row, self.step])}
        arrays |= {} if self.apart is None else {"apart": np.array([self.apart])}
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})  # others would be written in another order

    @classmethod
    def of_bytes(cls, data: bytes) -> Round:
        """Back from a file."""
        found = load(data)
        (first_row, step), apart = found.pop("at").tolist(), found.pop("apart", None)
        judged = {name.removeprefix("judged."): found.pop(name) for name in list(found) if name.startswith("judged.")}
        return cls(
            first_row, step, **found, judged=Judged.of_arrays(judged) if judged else None, apart=None if apart is None else float(apart[0]),
        )  # fmt: skip


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
        folder: where rounds that are kept lie, for runs that go on.
        prompts: that the training's rounds have of their own; further ones are behind them.
        tokenizer: that texts are spelled by for those who judge them; None where nobody does.
        reach: how another engine is reached; the training's own needs none.
    """

    def __init__(
        self, source: Source, rollout: Rollout, state: TrainState, batches: Batches, *, ends: int, pad: int, vocab_size: int,
        seed: int, folder: Path, prompts: int = 1, tokenizer: Tokenizer | None = None, reach: Reach | None = None,
    ) -> None:  # fmt: skip
        self.prompts = prompts
        self.source, self.rollout, self.state, self.batches = source, rollout, state, batches
        self.ends, self.pad, self.seed, self.folder, self.tokenizer = ends, pad, seed, folder, tokenizer
        self.time, self.vocab_size = source.time, vocab_size
        self.writer = rollout.engine.open(state, reach or Reach(folder))
        self.earnings = None if rollout.earns is None else Earnings(rollout.earns, state, rollout.sampler.temperature, vocab_size)
        self._rounds: list[Round] = []

    def batch(self, first_row: int, rows: int) -> Batch:
        batch = super().batch(first_row, rows)
        there = self._round(first_row, rows)
        which = there.which(first_row, rows)
        prompts = torch.from_numpy(there.numbers[which] // self.rollout.samples)
        judged = {} if there.judged is None else {
            name: torch.from_numpy(array[which]) for name in ("advantages", "reference", "values", "returns")
            if (array := getattr(there.judged, name)) is not None
        }  # fmt: skip
        samples = Samples(
            torch.from_numpy(there.texts(which)[1]), prompts, torch.full_like(prompts, self.state.step - there.step), **judged,
            ids=self.vocab_size,
        )  # fmt: skip
        return Batch(batch.tokens, batch.targets, batch.loss_weight, replace(batch.layout, alike=True), first_row, samples=samples)

    def rows(self, first_row: int, rows: int) -> Rows:
        there = self._round(first_row, rows)
        return there.texts(there.which(first_row, rows))[0]

    def figures(self, first_row: int, rows: int) -> dict[str, float]:
        """Of the texts of some rows, on the mean: what they have earned, how far the policy was from its reference, how many tokens they have,
        how many of them it ended, how old they are, how many are of groups in which all have earned the same, and how far apart another engine
        and the policy are about a token, in nats."""
        there = self._round(first_row, rows)
        which = there.which(first_row, rows)
        (prompts, ends), age = there.spans[which].T, self.state.step - there.step
        found = {"length": float((ends - prompts).mean()), "age": float(max(0, age - 1))}  # asked once the step is made
        found["ended"] = float((there.tokens[which, ends - 1] == self.ends).mean())
        found |= {} if there.apart is None else {"apart": there.apart}
        if self.earnings is None or there.judged is None:
            return found
        if self.rollout.samples > 1:
            found["flat"] = float(self.earnings.flat(there.judged.scores, self.rollout.samples)[which].mean())
        return self.earnings.figures(there.judged, which, there.texts(which)[1]) | found

    def earned(self, first_row: int, rows: int) -> Float[np.ndarray, " rows"]:
        """What the texts of some rows have earned: their rewards, weighed and added up."""
        there = self._round(first_row, rows)
        assert self.earnings is not None, "nobody judges these texts"
        assert there.judged is not None
        return (there.judged.scores @ self.earnings.weights)[there.which(first_row, rows)]

    def documents(self, first_row: int, rows: int) -> list[Span]:
        """The documents that gave the prompts of these rows."""
        there = None if self.rollout.epochs == 1 and not self.rollout.again else self._round(first_row, rows)
        numbers = range(first_row, first_row + rows) if there is None else there.numbers[there.which(first_row, rows)].tolist()
        return [
            span._replace(row=first_row + i) for i, number in enumerate(numbers)
            for span in self.source.documents(number // self.rollout.samples, 1) if span.place == 0
        ]  # fmt: skip

    def forget(self, step: int) -> None:
        """Deletes rounds on the disk that no step from this one on reads."""
        if not (self.rollout.kept and self.mesh.leads):
            return
        paths, needed = sorted(self.folder.glob("*.safetensors")), self.batches.rows_before(step)
        for path, following in pairwise(paths):
            if int(following.stem) <= needed:
                path.unlink()

    def turns(self, first_row: int, rows: int) -> bool:
        first, last = (row // self._rows_per_prompt for row in (first_row, first_row + rows - 1))
        return self.source.turns(first, last - first + 1)

    def supply(self, rows: int) -> list[Supply]:
        return self.source.supply(-(-rows // self._rows_per_prompt))

    @property
    def mesh(self) -> Mesh:
        """The ranks that write."""
        return self.state.holding.mesh

    @property
    def _rows_per_prompt(self) -> int:
        return self.rollout.samples * self.rollout.epochs

    def _round(self, first_row: int, rows: int) -> Round:
        """The round that has these rows: from memory, from the disk, or written now."""
        for known in self._rounds:
            if known.has(first_row, rows):
                return known
        found = self._found(first_row, rows)
        if found is None:
            begin = self._begin(first_row)
            found = self._write(begin, max(rows, self._rows_left()))
            if self.rollout.kept and self.mesh.leads:
                write_bytes(self._path(begin), found.to_bytes())
        if self.earnings is not None and found.judged is not None:
            self.earnings.settle(found.judged, found.texts(np.arange(len(found.numbers)))[1])
        self._rounds = [*self._rounds[1 - KEPT :], found]
        return found

    def _begin(self, first_row: int) -> int:
        """The first row of a round that is to be written: of the present step, where it is one of its rows, since ranks ask for theirs."""
        step = self.batches.rows_before(self.state.step) + self.state.known.skipped_rows
        return step if step <= first_row < step + self.batches.rows_of(self.state.step) else first_row

    def _rows_left(self) -> int:
        """Rows that the steps from the present one to the end of its round read."""
        step, every = self.state.step, self.rollout.every
        return self.batches.rows_before((step // every + 1) * every) - self.batches.rows_before(step)

    def _path(self, first_row: int) -> Path:
        return self.folder / f"{first_row:012d}.safetensors"

    def _found(self, first_row: int, rows: int) -> Round | None:
        """A round on the disk that has these rows and was begun before this step."""
        paths = sorted(self.folder.glob("*.safetensors")) if self.rollout.kept else []
        begun = [path for path in paths if int(path.stem) <= first_row]
        if not begun:
            return None
        there = Round.of_bytes(begun[-1].read_bytes())
        return there if there.has(first_row, rows) and there.step <= self.state.step else None

    def _write(self, first_row: int, rows: int) -> Round:
        epochs, n = self.rollout.epochs, self.rollout.samples
        texts = -(-rows // epochs)
        order = np.arange(texts) if epochs == 1 else np.concatenate([
            numpy_rng("epoch", self.seed, first_row, epoch).permutation(texts) for epoch in range(epochs)
        ])  # fmt: skip
        numbers = np.arange(first_row // epochs, first_row // epochs + texts)
        prompts = self._prompts(numbers // n)
        written = self._texts(numbers, prompts, first_row, order[:rows])
        if self.earnings is None:
            return written
        scores = self._scores(self.earnings, written, prompts)
        for time in range(1, self.rollout.again + 1):
            if not (flat := self.earnings.flat(scores.given, n)).any():
                break
            further = numbers[flat] + time * self.prompts * n
            prompts = self._prompts(further // n)
            other = self._texts(further, prompts, first_row, order[:rows])
            written, scores = written.with_texts(flat, other), scores.with_texts(flat, self._scores(self.earnings, other, prompts))
        rows_of, logprobs = written.texts(np.arange(texts))
        return replace(written, judged=self.earnings.judge(rows_of, logprobs, written.numbers // n, scores))

    def _texts(self, numbers: Int[np.ndarray, " texts"], prompts: Prompts, first_row: int, order: Int[np.ndarray, " rows"]) -> Round:
        """The texts of some numbers, not yet judged."""
        n, texts, readers = self.rollout.samples, len(numbers), self.mesh.readers
        mine = np.array_split(np.arange(texts), readers.size)[readers.index]
        own = [prompts[number // n][0] for number in numbers[mine].tolist()]
        found = self.writer.write(Wanted(
            prompts=own, numbers=numbers[mine].tolist(), most=self.rollout.max_new_tokens, room=self.time + 1, sampler=self.rollout.sampler,
            seed=self.seed, ends=self.ends, vocab_size=self.vocab_size,
            nameless=range(self.vocab_size, max(self.vocab_size, self.state.model.config.vocab_size)),
        ))  # fmt: skip
        tokens, logprobs = np.zeros((texts, self.time + 1), np.int64), np.zeros((texts, self.time + 1), np.float32)
        spans = np.zeros((texts, 2), np.int64)
        for place, prompt, text in zip(mine, own, found, strict=True):
            begin, end = len(prompt), len(prompt) + len(text.tokens)
            tokens[place, :end], logprobs[place, begin:end], spans[place] = [*prompt, *text.tokens], text.logprobs, (begin, end)
        for array in (tokens, logprobs, spans):
            readers.sum_(torch.from_numpy(array))  # each text is another rank's 0
        tokens[np.arange(self.time + 1) >= spans[:, 1:]] = self.pad
        written = Round(first_row, self.state.step, order, numbers, tokens, spans, logprobs)
        return written if self.rollout.engine.exact else replace(written, apart=self._apart(written))

    def _apart(self, written: Round) -> float:
        """How far apart another engine and the policy are about the first texts of a round; raises `DataError` where that is too far.

        What is at the edge of a cut may be left out by the one and not by the other; if that is more than a few tokens, they are far apart.
        """
        rows, logprobs = written.texts(np.arange(min(LOOKED_AT, len(written.numbers))))
        said = told(self.state.model, rows, self.rollout.sampler.cut, self.vocab_size)
        found = np.abs(logprobs.astype(np.float64) - said)[rows.loss_weight > 0]
        possible = np.isfinite(found)
        apart = float(found[possible].mean()) if possible.mean() >= POSSIBLE else float("inf")
        self.rollout.engine.check_apart(apart)
        return apart

    def _scores(self, earnings: Earnings, written: Round, prompts: Prompts) -> Scores:
        """What the texts of a round have earned."""
        assert self.tokenizer is not None, "whoever has texts judged says how they are spelled"
        of_prompts, spell = written.numbers // self.rollout.samples, self.tokenizer.decode
        spans = (span for first, last in stretches(of_prompts) for span in self.source.documents(first, last - first + 1))
        ids = {span.row: span.id for span in spans if span.place == 0}
        answers = []
        for prompt, tokens, (begin, end) in zip(of_prompts.tolist(), written.tokens.tolist(), written.spans.tolist(), strict=True):
            text = tokens[begin:end]
            answers.append(Answer(
                document=ids[prompt], prompt=spell(tokens[:begin]), text=spell(text), expected=spell(prompts[prompt][1]), ids=tokens[:end],
                begins=begin, ended=bool(text) and text[-1] == self.ends, sizes=self.tokenizer.byte_lengths[text].tolist(),
            ))  # fmt: skip
        return earnings.scores(answers, self.time)

    def _prompts(self, wanted: Int[np.ndarray, " texts"]) -> Prompts:
        """The prompts of these numbers, and how their documents go on."""
        found: Prompts = {}
        for first, last in stretches(wanted):
            rows = self.source.rows(first, last - first + 1)
            for i, (tokens, weight, segments) in enumerate(zip(rows.tokens, rows.loss_weight, rows.segments, strict=True)):
                real = int((segments == segments[0]).sum())
                learnt = np.append(np.flatnonzero(weight[:real]) + 1, real)  # what is read ends at the first token before one that is learnt
                read = int(learnt[0]) if self.rollout.prompt_tokens is None else self.rollout.prompt_tokens
                begin = min(read, real, self.time - 1)
                unlearnt = np.flatnonzero(weight[begin - 1 : real] == 0)
                stop = int(unlearnt[0]) if len(unlearnt) else real - begin + 1
                found[first + i] = tokens[:begin].tolist(), rows.targets[i, begin - 1 : begin - 1 + stop].tolist()
        return found


def stretches(numbers: Int[np.ndarray, " texts"]) -> list[tuple[int, int]]:
    """The first and the last of numbers that follow each other, for all of them."""
    apart = np.unique(numbers)
    return [(int(some[0]), int(some[-1])) for some in np.split(apart, np.flatnonzero(np.diff(apart) > 1) + 1)]


def check_samples(objective: Objective, rollout: Rollout | None, batches: Batches) -> None:
    """Raises `ConfigError` where a loss needs to know more of rows than they bring.

    Args:
        objective: the loss.
        rollout: how rows are written; None where they are not.
        batches: rows of steps.
    """
    of_samples = [term for _, term in terms_of(objective) if isinstance(term, OfSamples)]
    if rollout is None:
        if of_samples:
            raise ConfigError(f"Train.objective has a {of_samples[0].kind()}, which learns from what the model writes; give Train.rollout")
        return
    if missing := objective.needs - (frozenset() if rollout.earns is None else rollout.earns.gives):
        ways = {"advantages": "rollout.earns=Earns(…)", "reference": "rollout.earns.reference", "values": "rollout.earns.credit=GAE()"}
        name = min(missing)
        raise ConfigError(f"Train.objective needs {name} of its rows, and Train.rollout gives none; give {ways.get(name, ways['values'])}")
    sampler = rollout.sampler
    for term in of_samples:
        if term.temperature != sampler.temperature:
            raise term.refuse("temperature", f"is not that of Train.rollout.sampler, {sampler.temperature:g}, which another policy draws with")
    if of_samples and (sampler.top_k is not None or sampler.top_p < 1):
        raise ConfigError("Train.rollout.sampler leaves out tokens (top_k, top_p) that the policy of the loss does not, so that their ratio "
                          "would be wrong; leave top_k and top_p as they are")  # fmt: skip
    if rollout.epochs > 1 or rollout.earns is not None:
        if batches.levels:
            raise ConfigError("Train.ramp has steps of several sizes, and rounds that are judged as wholes need one; leave it out")
        if (texts := batches.rows * rollout.every // rollout.epochs) % rollout.samples:
            fits = next(n for n in range(min(texts, rollout.samples), 0, -1) if texts % n == 0)
            raise rollout.refuse("samples", f"does not part the {texts} texts of a round into whole groups; {fits} would")


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
