"""`PromptTuning`: a model is told what to do by vectors that no text could say."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.nn.adapters.prompts import Prompting, VirtualTokens
from bloomery.nn.init import Draw


class PromptTuning(Prompting):
    """Virtual tokens before each document, whose vectors are what is trained.

    Source: Lester et al. (2021), arXiv 2104.08691.
    """

    words: tuple[int, ...] = ()
    """Ids of tokens whose vectors they start from, round and round; none has them drawn from N(0, 1)."""

    def vectors(self, width: int) -> PromptVectors:
        return PromptVectors(self.name, self.n_tokens, width, self.words)


class PromptVectors(VirtualTokens):
    """See `PromptTuning`. Parameters: weight, (n_tokens, width)."""

    def __init__(self, by: str, n_tokens: int, width: int, words: tuple[int, ...]) -> None:
        super().__init__(by)
        self.weight, self.words = nn.Parameter(torch.empty(n_tokens, width)), words

    def initialise(self, draw: Draw) -> None:
        """Normal, unless they start from words."""
        draw.normal(self.weight, 1.0)

    def begin(self, weight: Float[Tensor, "rows columns"]) -> Mapping[str, Tensor]:
        if not self.words:
            return {}
        return {"weight": weight.detach()[[self.words[i % len(self.words)] for i in range(len(self.weight))]]}

    def vectors(self) -> Float[Tensor, "n width"]:
        return self.weight
