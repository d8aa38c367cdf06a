"""`Draws`: tokens drawn for many rows at once, each from its own stream of numbers, with their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.core.rng import numpy_rng
from bloomery.generate.samplers import Random


class Draws:
    """Draws the tokens of numbered rows, by the inverse of the distribution function at uniform numbers:

        token = min{v : Σ_{i ≤ v} μ(i) > u},   u = the row's next number of its stream (seed, number)

    Which other rows are in the batch, and in which order, enters only by the rounding of the model's logits.

    Args:
        sampler: μ, from logits.
        seed: of the streams.
        numbers: of the rows, by which their streams are named.
        most: tokens that a row may have.

    Attributes:
        tokens: what was drawn for each row so far, the token that ends it included.
        logprobs: log μ of each of them.
    """

    def __init__(self, sampler: Random, seed: int, numbers: Sequence[int], most: int) -> None:
        self.sampler = sampler
        self.tokens: list[list[int]] = [[] for _ in numbers]
        self.logprobs: list[list[float]] = [[] for _ in numbers]
        self._uniform = [numpy_rng("draws", seed, number).random(most) for number in numbers]

    def __call__(self, logits: Float[Tensor, "batch vocab"], rows: Sequence[int]) -> Int[Tensor, " batch"]:
        """A token for each of some rows, given by their places among `numbers`."""
        p = self.sampler.probabilities(logits).double()
        u = torch.tensor([self._uniform[row][len(self.tokens[row])] for row in rows], dtype=torch.float64, device=p.device)
        reached = p.cumsum(-1)
        picked = torch.searchsorted(reached, (u * reached[:, -1])[:, None], right=True).squeeze(-1)
        logprobs = p.gather(-1, picked[:, None]).squeeze(-1).log()
        for row, token, logprob in zip(rows, picked.tolist(), logprobs.tolist(), strict=True):
            self.tokens[row].append(token)
            self.logprobs[row].append(logprob)
        return picked
