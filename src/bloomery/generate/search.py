"""`Search`: how a text is found by looking at several ways to go on, rather than token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.config import Config
from bloomery.generate.decode import Reads, Until, random_numbers
from bloomery.generate.prompts import as_passage, check_passages, room_behind
from bloomery.generate.reading import Reading
from bloomery.generate.rules import Shape, Text
from bloomery.models.model import CausalModel


@dataclass(frozen=True)
class Found:
    """A text that a search has come to.

    Attributes:
        tokens: without the one that ends it.
        score: by which it is compared with others to the same prompt.
    """

    tokens: list[int]
    score: float


@dataclass(frozen=True)
class Terms:
    """What holds for the texts of a search.

    Attributes:
        stop_ids: tokens that end a text, and are no part of it.
        limits: the most tokens of each.
        draws: random numbers for each.
        shapes: what changes scores.
        until: whether new tokens end a text; see `Until`.
        numbers: by which it knows the prompts.
        vocab_size: ids from there on are never taken.
    """

    stop_ids: frozenset[int]
    limits: Sequence[int]
    draws: Sequence[torch.Generator]
    shapes: Sequence[Shape] = ()
    until: Until | None = None
    numbers: Sequence[int] = ()
    vocab_size: int | None = None

    def scores(self, logits: Tensor, texts: Sequence[Text]) -> Tensor:
        """Logits, or what was made of them, as rules have them, (rows, vocab)."""
        scores = logits[:, : self.vocab_size]
        for shape in self.shapes:
            scores = shape(scores, texts)
        return scores

    def ends(self, prompt: int, new: Sequence[int]) -> bool:
        """Whether new tokens behind the prompt of that number are a whole text."""
        return new[-1] in self.stop_ids or len(new) >= self.limits[prompt] or (self.until is not None and self.until(self.numbers[prompt], new))

    def found(self, new: Sequence[int], score: float) -> Found:
        """As a result."""
        return Found([*new[:-1]] if new[-1] in self.stop_ids else [*new], score)


Steps = Generator[None, None, list[list[Found]]]
"""Something is read at each step; in the end, what is found for each prompt, the best first."""


class Search(Config, ABC):
    """Finds the texts that it looks for by its own measure. The same prompt and seed give the same, whatever else is in the batch."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Rows that it reads on at once for one prompt."""

    @abstractmethod
    def follow(self, reading: Reading, prompts: Sequence[Sequence[int]], terms: Terms) -> Steps:
        """Goes on from prompts that have been read, by a token of each way at a step.

        Args:
            reading: one row for each prompt.
            prompts: the same ones.
            terms: with limits of at least 1.
        """

    def steps(self, reading: Reading, prompts: Sequence[Sequence[int]], terms: Terms) -> Steps:
        """The same, with the reading of the prompts before it."""
        yield from reading.begin()
        return (yield from self.follow(reading, prompts, terms))

    def find(self, reading: Reading, prompts: Sequence[Sequence[int]], terms: Terms) -> list[list[Found]]:
        """What it finds, all steps at once."""
        steps = self.steps(reading, prompts, terms)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value


@torch.inference_mode()
def search(
    by: Search, model: CausalModel, prompts: Sequence[Sequence[int]], stop_ids: frozenset[int], max_new_tokens: int, *, batch_rows: int = 64,
    seeds: Sequence[int] | None = None, shapes: Sequence[Shape] = (), until: Until | None = None, vocab_size: int | None = None,
    passages: Sequence[Sequence[int]] | None = None, reads: Reads = "forward",
) -> list[list[Found]]:
    """What a search finds for each of many prompts, the best first; arguments and errors are those of `complete_by`, but for `shapes`, which
    change scores."""
    check_passages(model, passages, len(prompts))
    limits = [min(max_new_tokens, room_behind(model, prompt, f"prompt {i}")) for i, prompt in enumerate(prompts)]
    draws = [random_numbers(seed) for seed in seeds or [0] * len(prompts)]
    results: list[list[Found]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(prompts), at_once := max(1, batch_rows // by.n_rows)):
        some = by_length[start : start + at_once]
        read = as_passage(model, None if passages is None else [passages[i] for i in some])
        asked = [prompts[i] for i in some]
        reading = Reading(model, asked, max(len(prompts[i]) + limits[i] for i in some), read, reads)
        terms = Terms(stop_ids, [limits[i] for i in some], [draws[i] for i in some], shapes, until, some, vocab_size)
        for i, found in zip(some, by.find(reading, asked, terms), strict=True):
            results[i] = found
    return results
