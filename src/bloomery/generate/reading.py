"""`Reading`: rows that a model has read and reads on, for searches, which go several ways from one text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.generate.decode import Reads, read_prompts
from bloomery.generate.prompts import padded
from bloomery.models.model import CausalModel
from bloomery.nn.cache import Cache
from bloomery.nn.layout import Passage, SequenceLayout


class Reading:
    """Rows of a batch, each read up to its last token once it has begun.

    Args:
        model: its weights must not change meanwhile.
        prompts: what rows begin with.
        longest: tokens that a row may come to have.
        passage: what an encoder–decoder writes about.
        reads: how prompts are read.

    Attributes:
        features: (rows, time, d_features) of what was read last: the prompts, padded on the right, or one token each.
        lengths: (rows,) tokens of each row.
    """

    def __init__(
        self, model: CausalModel, prompts: Sequence[Sequence[int]], longest: int, passage: Passage | None = None, reads: Reads = "forward"
    ) -> None:
        self._model = model
        self._cache: Cache = model.new_cache(batch=len(prompts), capacity=longest)
        tokens, self.lengths = padded(prompts, model.device)
        self._pieces = read_prompts(model, tokens, self.lengths, self._cache, passage, reads)
        self._last = self.lengths - 1  # where the last token of each is among the features

    def begin(self) -> Iterator[None]:
        """Reads the prompts, a piece at each step."""
        read = []
        for _, features in self._pieces:
            read.append(features)
            yield
        self.features = torch.cat(read, dim=1)

    @property
    def logits(self) -> Float[Tensor, "rows vocab"]:
        """Of the next token of each row."""
        return self._model.unembed(self.features[torch.arange(len(self._last), device=self._last.device), self._last]).float()

    def select(self, rows: Sequence[int] | Int[Tensor, " kept"]) -> None:
        """Goes on with some of the rows: in another order, without some, with some several times."""
        kept = torch.as_tensor(rows, device=self.lengths.device)
        self._cache = self._cache.select(kept)
        self.features, self.lengths, self._last = self.features[kept], self.lengths[kept], self._last[kept]

    def read(self, tokens: Sequence[int] | Int[Tensor, " rows"]) -> None:
        """One more token in each row."""
        new = torch.as_tensor(tokens, device=self.lengths.device)[:, None]
        self.features = self._model.features(new, SequenceLayout(self.lengths[:, None]), self._cache)
        self.lengths, self._last = self.lengths + 1, torch.zeros_like(self._last)
