"""Drafters: what guesses how a text goes on, so that its model can read several tokens at once where it would have written one.

A guess costs nothing but time where it is wrong: what stands is decided by the model (see `speculate`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.core.config import Config
from bloomery.generate.decode import read_on, read_prompts
from bloomery.generate.prompts import padded
from bloomery.generate.rules import Text
from bloomery.models import read_model
from bloomery.models.model import CausalModel, causal
from bloomery.models.transformer import Transformer
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.norms import at
from bloomery.nn.seen import Seen

Drawn = tuple[int, Float[Tensor, " vocab"] | None]
"""A token, and the distribution that it was drawn from; None where it was not drawn."""
Draw = Callable[[Tensor, Sequence[int], Sequence[Sequence[int]]], list[Drawn]]
"""(logits, places of their rows, what was guessed for each before) → a guess for each; see `Picks.guess`."""


@dataclass(frozen=True)
class Guess:
    """How some texts may go on.

    Attributes:
        tokens: of each text; as many as there are.
        by: (tokens, vocab) of each text, the distributions that they were drawn from; None where they were not drawn.
    """

    tokens: list[list[int]]
    by: list[Tensor | None]


class Guesser(ABC):
    """What guesses for rows, which come and go."""

    @abstractmethod
    def guess(self, texts: Sequence[Text], most: Sequence[int], draw: Draw, cache: Cache) -> Guess:
        """How each may go on; what there is to it follows from the text alone, not from those beside it.

        Args:
            texts: of the rows.
            most: tokens for each; 0 asks for none.
            draw: picks tokens by the logits of a model, as the texts' own are picked.
            cache: that of the model which checks, of these rows.
        """

    @abstractmethod
    def join(self, texts: Sequence[Sequence[int]]) -> None:
        """Takes some rows more, behind those that it has, with texts that begin so."""

    @abstractmethod
    def leave(self, row: int, last: int, length: int) -> None:
        """Lets go of a row; the last one, of so many tokens without the last, takes its place."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Goes on with some of the rows."""


class Unremembering:
    """What a guesser inherits that has nothing of its own to remember of rows."""

    def join(self, texts: Sequence[Sequence[int]]) -> None:
        """Nothing to do."""

    def leave(self, row: int, last: int, length: int) -> None:
        """Nothing to do."""

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Nothing to do."""


Begin = Callable[[int, int], Guesser]
"""(rows at most; tokens that a text may come to have) → a guesser that has none yet."""


class Drafter(Config, ABC):
    """Guesses how a text goes on."""

    draws: ClassVar[bool] = True
    """Whether guesses may be drawn, so that how many there are is part of what a seed says."""

    n_tokens: Annotated[int, Gt(0)] = 4
    """Tokens that are guessed at a time, at most."""

    def ready(self, model: CausalModel, vocab_size: int) -> Begin:
        """The drafter, ready to guess.

        Args:
            model: which checks the guesses.
            vocab_size: of the tokenizer.

        Raises:
            ConfigError: it does not go with the model.
        """
        if not goes_back(model):
            known = f"are read ahead, and a {model.config.kind()} cannot go back to where one is wrong, or reads a passage"
            raise self.refuse("n_tokens", f"{known}; leave the drafter out")
        return self.begins(model, vocab_size)

    @abstractmethod
    def begins(self, model: CausalModel, vocab_size: int) -> Begin:
        """The same for a model that can go back."""


class Ngram(Drafter):
    """What followed the last tokens where they stood before, in the prompt or behind it: for texts that repeat what they have read.

    Source: Yang et al. (2023), arXiv 2304.04487, and Saxena (2023), prompt lookup decoding.
    """

    draws: ClassVar[bool] = False

    n_tokens: Annotated[int, Gt(0)] = 8
    """Tokens that are guessed at a time, at most."""
    longest: Annotated[int, Ge(1)] = 3
    """Last tokens that are looked for; where they did not stand before, one less, down to one."""

    def begins(self, model: CausalModel, vocab_size: int) -> Begin:
        return lambda rows, capacity: Lookup(self)


class Lookup(Unremembering, Guesser):
    """See `Ngram`."""

    def __init__(self, config: Ngram) -> None:
        self._config = config

    def guess(self, texts: Sequence[Text], most: Sequence[int], draw: Draw, cache: Cache) -> Guess:
        tokens = [self._behind(text.ids, min(n, self._config.n_tokens)) for text, n in zip(texts, most, strict=True)]
        return Guess(tokens, [None for _ in texts])

    def _behind(self, ids: list[int], most: int) -> list[int]:
        known = np.asarray(ids)
        for n in range(min(self._config.longest, len(ids) - 1) if most else 0, 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(known[:-1], n)
            if len(ends := (windows == known[-n:]).all(axis=1).nonzero()[0] + n):
                whole = ends[ends + most <= len(ids)]  # the last place that tells enough, or the one that tells most
                end = int(whole[-1] if len(whole) else ends[0])
                return ids[end : end + most]
        return []


class Draft(Drafter):
    """What a smaller model would write.

    Source: Leviathan et al. (2022), arXiv 2211.17192; Chen et al. (2023), arXiv 2302.01318.
    """

    model: Path
    """Folder of a model of the same tokenizer: what a training has left."""

    def begins(self, model: CausalModel, vocab_size: int) -> Begin:
        folder = self.model / "model" if (self.model / "model").is_dir() else self.model
        return self.by(causal(read_model(folder)[1]).to(model.device).eval(), model, vocab_size)

    def by(self, small: CausalModel, model: CausalModel, vocab_size: int) -> Begin:
        """The same with a model that is there already."""
        if small.config.vocab_size < vocab_size:
            raise self.refuse("model", f"knows {small.config.vocab_size} tokens, the tokenizer {vocab_size}; give one of the same tokenizer")
        if small.config.max_seq_len < model.config.max_seq_len:
            known = f"reads {small.config.max_seq_len} tokens, and the model that checks {model.config.max_seq_len}"
            raise self.refuse("model", f"{known}; give one that reads as many")
        if not goes_back(small):
            raise self.refuse("model", "cannot go back to where a guess was wrong, or reads a passage; give a decoder without recurrent states")
        return lambda rows, capacity: BySmall(small, self.n_tokens, rows, capacity)


class EarlyExit(Drafter):
    """What the head reads in the model's own first layers. A model that was not trained to be read there says little of use.

    Source: Elhoushi et al. (2024), arXiv 2404.16710, section 4.3. Departure: what the first layers say of a guess is worked out anew when it
    is checked.
    """

    n_layers: Annotated[int, Gt(0)]
    """Layers below the exit."""

    def begins(self, model: CausalModel, vocab_size: int) -> Begin:
        if not isinstance(model, Transformer):
            raise self.refuse("n_layers", f"are read by the head, and a {type(model).__name__} has none such; take Ngram() or Draft(…)")
        if self.n_layers >= model.config.n_layers:
            raise self.refuse("n_layers", f"leaves nothing of a model of {model.config.n_layers} layers to check it; give fewer")
        shallow = Shallow(model, self.n_layers)
        return lambda rows, capacity: ByLayers(shallow, self.n_tokens)


class Shallow(CausalModel):
    """A model with its last layers left out; shares weights and cache with it."""

    def __init__(self, model: Transformer, n_layers: int) -> None:
        super().__init__()
        self.model, self.config, self.head, self.n_layers = model, model.config, model.head, n_layers

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        assert isinstance(cache, LayeredCache)
        x = self.model.embed(tokens, layout)
        for block, of_layer in zip(self.model.blocks, cache.layers, strict=False):
            x = block(x, layout, of_layer, seen)
        return self.model.transform(at(self.model.norm, layout)(x))

    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        return self.part(self.model.new_cache(batch, capacity))

    def part(self, cache: Cache) -> LayeredCache:
        """What of the whole model's cache is that of its layers, in the same memory."""
        assert isinstance(cache, LayeredCache)
        return LayeredCache(cache.layers[: self.n_layers])


class ByModel(Guesser):
    """Guesses what a model would write.

    Args:
        model: which.
        n_tokens: at a time, at most.
    """

    def __init__(self, model: CausalModel, n_tokens: int) -> None:
        self._model, self._n_tokens = model, n_tokens

    @abstractmethod
    def _own(self, cache: Cache, rows: int) -> Cache:
        """That of the model which guesses, of the first rows."""

    def guess(self, texts: Sequence[Text], most: Sequence[int], draw: Draw, cache: Cache) -> Guess:
        own, ids, most = self._own(cache, len(texts)), [text.ids for text in texts], [min(n, self._n_tokens) for n in most]
        behind = min(2, min(map(len, ids)))  # the last token but one may have been guessed and not read; to read it again changes nothing
        new, starts = [its[-behind:] for its in ids], [len(its) - behind for its in ids]
        tokens: list[list[int]] = [[] for _ in texts]
        by: list[list[Tensor]] = [[] for _ in texts]
        for number in range(max(most)):
            features = read_on(self._model, new, starts, own)[:, -1]
            asked = [row for row, n in enumerate(most) if n > number]
            for row, (token, its) in zip(asked, draw(self._model.unembed(features[asked]), asked, [tokens[row] for row in asked]), strict=True):
                tokens[row].append(token)
                by[row] += [] if its is None else [its]
            new = [found[-1:] or whole[-1:] for found, whole in zip(tokens, ids, strict=True)]
            starts = [len(whole) - 1 + min(number + 1, n) for whole, n in zip(ids, most, strict=True)]
        return Guess(tokens, [torch.stack(its) if its else None for its in by])


class BySmall(ByModel):
    """Guesses what a model of its own would write; see `Draft`.

    Args:
        model: which.
        n_tokens: at a time, at most.
        rows: at most.
        capacity: tokens of a text, at most.
    """

    def __init__(self, model: CausalModel, n_tokens: int, rows: int, capacity: int) -> None:
        super().__init__(model, n_tokens)
        self._cache, self._rows = model.new_cache(rows, capacity), 0

    def _own(self, cache: Cache, rows: int) -> Cache:
        return self._cache.view(slice(0, rows))

    def join(self, texts: Sequence[Sequence[int]]) -> None:
        read(self._model, texts, self._cache.view(slice(self._rows, self._rows + len(texts))))
        self._rows += len(texts)

    def leave(self, row: int, last: int, length: int) -> None:
        if row < last:
            self._cache.put(row, self._cache, last, length)
        self._rows -= 1

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        self._cache, self._rows = self._cache.select(rows), len(rows)


class ByLayers(Unremembering, ByModel):
    """Guesses what the first layers of the model that checks would write, which share its cache; see `EarlyExit`."""

    def __init__(self, model: Shallow, n_tokens: int) -> None:
        super().__init__(model, n_tokens)
        self._part = model.part

    def _own(self, cache: Cache, rows: int) -> Cache:
        return self._part(cache)


def read(model: CausalModel, texts: Sequence[Sequence[int]], cache: Cache) -> None:
    """Reads some texts, of which there is a cache then."""
    for _ in read_prompts(model, *padded(texts, model.device), cache, None, "forward"):
        pass


def goes_back(model: CausalModel) -> bool:
    """Whether it can forget the last tokens that it has read, and has nothing but them to go by."""
    return not model.config.reads_passage and model.new_cache(1, 1).by_place
