"""Samplers: how one token is picked from the logits of the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from bloomery.core.config import Config


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


class Greedy(Sampler):
    """The most likely token; among equals, the one with the lowest id."""

    def pick(self, logits: Float[Tensor, "batch vocab"], generator: torch.Generator) -> Int[Tensor, " batch"]:
        return logits.argmax(dim=-1)

    def pick_each(self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]) -> Int[Tensor, " batch"]:
        return logits.argmax(dim=-1)


class Random(Sampler):
    """A token drawn from the model's distribution, sharpened and cut.

    p = softmax(logits / temperature), kept to the `top_k` most likely tokens, then to the fewest of those whose probability reaches
    `top_p`, and renormalised.

    Source: Holtzman et al. (2020), arXiv 1904.09751, section 3.1, for `top_p`; Fan et al. (2018), arXiv 1805.04833, for `top_k`.
    """

    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits; below 1 sharpens. For the limit of 0 use `Greedy`."""
    top_k: int | None = Field(default=None, gt=0)
    """How many tokens are kept at most; None keeps all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """The share of probability that is kept at least; 1 keeps all."""

    def pick(self, logits: Float[Tensor, "batch vocab"], generator: torch.Generator) -> Int[Tensor, " batch"]:
        kept = self.probabilities(logits).cpu()
        return torch.multinomial(kept, 1, generator=generator).squeeze(1).to(logits.device)

    def pick_each(self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]) -> Int[Tensor, " batch"]:
        kept = self.probabilities(logits).cpu()
        return torch.cat([torch.multinomial(row, 1, generator=g) for row, g in zip(kept, generators, strict=True)]).to(logits.device)

    def probabilities(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
        """The distribution that is drawn from, (batch, vocab), rows adding up to 1."""
        logits = logits.float() / self.temperature
        if self.top_k is None and self.top_p == 1:
            return logits.softmax(dim=-1)  # nothing to sort for
        n_kept = min(self.top_k or logits.shape[-1], logits.shape[-1])
        sorted_logits, ids = logits.topk(n_kept, dim=-1)  # (batch, kept), most likely first
        likely = sorted_logits.softmax(dim=-1)
        likely = likely.masked_fill(likely.cumsum(dim=-1) - likely >= self.top_p, 0.0)  # what comes before already reaches top_p
        return torch.zeros_like(logits).scatter(-1, ids, likely / likely.sum(dim=-1, keepdim=True))
