"""Samplers: how one token is picked from the logits of the next."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from bloomery.core.config import Config

LIKELY = 1024  # tokens that are looked at first for `top_p`; all of them where these do not reach it


class Sampler(Config, ABC):
    """Picks the next token."""

    @abstractmethod
    def pick(self, logits: Float[Tensor, "batch vocab"], generator: torch.Generator) -> Int[Tensor, " batch"]:
        """One token id per row.

        Args:
            logits: (batch, vocab).
            generator: of random numbers, on the CPU; untouched by samplers that draw none.
        """

    def pick_each(self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]) -> Int[Tensor, " batch"]:
        """As `pick`, each row with random numbers of its own: what is picked in a row does not depend on those beside it."""
        return torch.cat([self.pick(row[None], generator) for row, generator in zip(logits, generators, strict=True)])

    def guess_each(
        self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"] | None]:
        """One token id per row as a guess, and the distributions that they were drawn from; None where they were not drawn: the likeliest."""
        return logits.argmax(dim=-1), None

    def checked(
        self, logits: Float[Tensor, "time vocab"], guessed: Sequence[int], by: Float[Tensor, "guesses vocab"] | None, generator: torch.Generator
    ) -> list[int]:
        """As many of some guesses as stand, and one token more; see `speculate`.

        Args:
            logits: before each of the guesses, and behind the last one.
            guessed: token ids, one after the other.
            by: the distributions that they were drawn from; None where they were not drawn.
            generator: as for `pick`.
        """
        kept: list[int] = []
        for at, its in enumerate(logits):
            kept.append(int(self.pick(its[None], generator)))
            if at == len(guessed) or kept[at] != guessed[at]:
                break
        return kept


class Greedy(Sampler):
    """The most likely token; among equals, the one with the lowest id."""

    def pick(self, logits: Float[Tensor, "batch vocab"], generator: torch.Generator) -> Int[Tensor, " batch"]:
        return logits.argmax(dim=-1)

    def pick_each(self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]) -> Int[Tensor, " batch"]:
        return logits.argmax(dim=-1)

    def checked(
        self, logits: Float[Tensor, "time vocab"], guessed: Sequence[int], by: Float[Tensor, "guesses vocab"] | None, generator: torch.Generator
    ) -> list[int]:
        likeliest = logits.argmax(dim=-1).tolist()
        return likeliest[: next((at for at, token in enumerate(guessed) if token != likeliest[at]), len(guessed)) + 1]


class Random(Sampler):
    """A token drawn from the model's distribution, sharpened and cut.

    p = softmax(logits / temperature), kept to the `top_k` most likely tokens, then to the fewest of those whose probability reaches
    `top_p`, then to those at least `min_p` times as likely as the most likely, then to the fewest of those nearest to what is to be
    expected, |−log p − H(p)|, whose probability reaches `typical_p`; each cut renormalises.

    Source: Fan et al. (2018), arXiv 1805.04833, for `top_k`; Holtzman et al. (2020), arXiv 1904.09751, section 3.1, for `top_p`; Nguyen et
    al. (2024), arXiv 2407.01082, for `min_p`; Meister et al. (2023), arXiv 2202.00666, for `typical_p`. The order is that of transformers.
    """

    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits; below 1 sharpens. For the limit of 0 use `Greedy`."""
    top_k: int | None = Field(default=None, gt=0)
    """How many tokens are kept at most; None keeps all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """The share of probability that is kept at least; 1 keeps all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """How likely a token has to be beside the likeliest; 0 keeps all."""
    typical_p: float = Field(default=1.0, gt=0, le=1)
    """The share of probability that is kept at least of what is neither too likely nor too unlikely; 1 keeps all."""

    def pick(self, logits: Float[Tensor, "batch vocab"], generator: torch.Generator) -> Int[Tensor, " batch"]:
        return _drawn(self.probabilities(logits), [generator] * len(logits))

    def pick_each(self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]) -> Int[Tensor, " batch"]:
        return _drawn(self.probabilities(logits), generators)

    def guess_each(
        self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"] | None]:
        q = self.probabilities(logits)
        return _drawn(q, generators), q

    def checked(
        self, logits: Float[Tensor, "time vocab"], guessed: Sequence[int], by: Float[Tensor, "guesses vocab"] | None, generator: torch.Generator
    ) -> list[int]:
        if by is None:
            return super().checked(logits, guessed, by, generator)
        p = self.probabilities(logits)
        for at, token in enumerate(guessed):
            if float(torch.rand((), generator=generator)) * float(by[at, token]) >= float(p[at, token]):
                rest = (p[at] - by[at]).clamp(min=0)
                left = rest if bool(rest.any()) else p[at]  # of p = q nothing falls but by rounding
                return [*guessed[:at], int(_drawn(left[None], [generator]))]
        return [*guessed, int(_drawn(p[-1:], [generator]))]

    def probabilities(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
        """The distribution that is drawn from, (batch, vocab), rows adding up to 1."""
        return self.cut(logits).softmax(dim=-1)

    def cut(self, logits: Float[Tensor, "batch vocab"], at_least: int = 1) -> Float[Tensor, "batch vocab"]:
        """logits / temperature, and −∞ where a token is cut away.

        Args:
            logits: (batch, vocab).
            at_least: tokens that each cut leaves.
        """
        logits = logits.float() / self.temperature
        n = logits.shape[-1]
        k = n if self.top_k is None else max(self.top_k, at_least)
        if self.top_k is None and self.top_p < 1 and n > LIKELY:  # sorting all would cost more than a small model's step
            total = logits.logsumexp(dim=-1, keepdim=True)
            highest, ids = logits.topk(LIKELY, dim=-1)
            if bool(((highest - total).exp().sum(dim=-1) > self.top_p).all()):
                return torch.full_like(logits, -torch.inf).scatter(-1, ids, self._cut_more(highest, at_least, total))
        if k >= n:
            return self._cut_more(logits, at_least)
        highest, ids = logits.topk(k, dim=-1)
        return torch.full_like(logits, -torch.inf).scatter(-1, ids, self._cut_more(highest, at_least))

    def _cut_more(self, logits: Float[Tensor, "batch kept"], at_least: int, total: Tensor | None = None) -> Float[Tensor, "batch kept"]:
        """The cuts behind `top_k`; `total` is log Σ exp of the logits where they are not all."""
        if self.top_p < 1:
            logits = _reaching(logits, -logits, self.top_p, at_least, total)
        if self.min_p > 0:
            best = logits.topk(min(at_least, logits.shape[-1]), dim=-1).values
            logits = logits.masked_fill(logits < torch.minimum(best[:, :1] + math.log(self.min_p), best[:, -1:]), -torch.inf)
        if self.typical_p < 1:
            logp = logits.log_softmax(dim=-1)
            entropy = -(logp.exp() * logp).nansum(dim=-1, keepdim=True)  # 0 · −∞ is 0 here
            logits = _reaching(logits, (-logp - entropy).abs(), self.typical_p, at_least)
        return logits


def _drawn(p: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]) -> Int[Tensor, " batch"]:
    """One token id per row, each drawn with a random number of its own, by the inverse of the distribution function: `multinomial` draws one
    for every token."""
    reached = p.cumsum(-1, dtype=torch.float64)
    u = torch.tensor([float(torch.rand((), dtype=torch.float64, generator=g)) for g in generators], dtype=torch.float64, device=p.device)
    return torch.searchsorted(reached, (u * reached[:, -1])[:, None], right=True).squeeze(-1)


def _reaching(
    logits: Float[Tensor, "batch kept"], order: Float[Tensor, "batch kept"], share: float, at_least: int, total: Tensor | None = None
) -> Float[Tensor, "batch kept"]:
    """Those kept that come first by `order`, lowest first, until their probability reaches a share; −∞ for the others."""
    ids = order.argsort(dim=-1)
    ranked = logits.gather(-1, ids)
    likely = (ranked - (logits.logsumexp(dim=-1, keepdim=True) if total is None else total)).exp()
    beyond = likely.cumsum(dim=-1) - likely >= share  # what comes before already reaches it
    beyond[:, :at_least] = False
    return torch.empty_like(logits).scatter(-1, ids, ranked.masked_fill(beyond, -torch.inf))
