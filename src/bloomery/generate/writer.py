"""`Decoding`: how a model writes, as a value; and `Writer`: a model that writes so, texts in and texts out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bloomery.core.config import Config
from bloomery.core.units import Tokens
from bloomery.generate.contrastive import Contrastive
from bloomery.generate.decode import Reads, complete_by, stream_by
from bloomery.generate.dola import DoLa
from bloomery.generate.drafters import Drafter
from bloomery.generate.picks import Picks
from bloomery.generate.prompts import check_passages
from bloomery.generate.rules import Rule
from bloomery.generate.samplers import Greedy, Sampler
from bloomery.generate.search import Search, search
from bloomery.generate.speculate import guessed
from bloomery.generate.stops import Stops
from bloomery.models.model import CausalModel
from bloomery.text.tokenizer import Tokenizer

Ended = Literal["end", "stop", "length"]
"""What ended a text: a token that ends texts, a string that does, or its longest."""


class Decoding(Config):
    """How a model writes.

    Example:
        >>> Decoding(by=Random(temperature=0.8), rules=(Repetition(factor=1.2), NoRepeatNGram(n=4)), stops=("\\n\\n",))
        >>> Decoding(by=Beam(n_beams=5), max_new_tokens=64)
        >>> Decoding(rules=(Json(matching={"type": "object", …}),))
    """

    by: Sampler | Search = Greedy()
    """Token by token, as a sampler picks them; or as a search finds the text."""
    rules: tuple[Rule, ...] = ()
    """What changes the scores of tokens, one after the other."""
    contrast: DoLa | None = None
    """Has an earlier layer's opinion taken off the last one's; None for what the model says."""
    stops: tuple[str, ...] = ()
    """Strings that end a text; they are no part of it."""
    max_new_tokens: Tokens = 256
    """The longest text; the end of the model's context ends it too."""
    reads: Reads = "forward"
    """How prompts are read."""
    draft: Drafter | None = None
    """Guesses what comes next, so that several tokens are read at once: faster where it is right, and texts of the same distribution."""

    def check(self) -> None:
        if self.draft is not None and (isinstance(self.by, Search) or self.reads != "forward"):
            raise self.refuse("draft", f"guesses for texts that are picked token by token behind prompts that are read forward, not for those "
                                       f"by={self.by} with reads={self.reads!r}; leave it out")  # fmt: skip
        if "" in self.stops:
            raise self.refuse("stops", "has an empty string, which ends every text before it begins; take it out")
        if self.contrast is not None and isinstance(self.by, Contrastive):
            raise self.refuse("contrast", "leaves no one feature to compare tokens by, as Contrastive does; leave out the one or the other")


@dataclass(frozen=True)
class Written:
    """What was written to a prompt.

    Attributes:
        text: up to what ended it.
        tokens: all that were written but the one that ends it; those of a stop string are among them.
        ended: by what.
        score: of a search; None for samplers.
    """

    text: str
    tokens: list[int]
    ended: Ended
    score: float | None = None


class Writer:
    """A model that writes. The same prompt and seed give the same text, whatever else is in the batch; see `complete` for how exactly.

    Args:
        model: its weights must not change meanwhile.
        tokenizer: its own.
        decoding: how it writes.

    Raises:
        ConfigError: the decoding does not go with the model or its tokenizer.
    """

    def __init__(self, model: CausalModel, tokenizer: Tokenizer, decoding: Decoding) -> None:
        self.tokenizer, self.decoding = tokenizer, decoding
        self.model = model if decoding.contrast is None else decoding.contrast.of(model)
        self._shapes = [rule.ready(tokenizer) for rule in decoding.rules]
        self._stops = Stops(decoding.stops, tokenizer)
        self._ends = frozenset({tokenizer.end})
        self._begin = None if decoding.draft is None else decoding.draft.ready(self.model, tokenizer.vocab_size)

    def write(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int] | None = None, passages: Sequence[Sequence[int]] | None = None,
        batch_rows: int = 64,
    ) -> list[Written]:
        """What it writes to each of many prompts.

        Args:
            prompts: token ids.
            seeds: one for each prompt; None is 0 for each.
            passages: what an encoder–decoder writes about, one for each prompt.
            batch_rows: rows that are read at once; changes nothing but speed and memory.

        Raises:
            DataError: as `complete`.
        """
        by, most, size = self.decoding.by, self.decoding.max_new_tokens, self.tokenizer.vocab_size
        until = (lambda _, new: self._stops.ended_by(new)) if self.decoding.stops else None
        if isinstance(by, Search):
            best = [found[0] for found in search(
                by, self.model, prompts, self._ends, most, batch_rows=batch_rows, seeds=seeds, shapes=self._shapes, until=until,
                vocab_size=size, passages=passages, reads=self.decoding.reads,
            )]  # fmt: skip
            return [self._written(prompt, found.tokens, found.score) for prompt, found in zip(prompts, best, strict=True)]
        picks = Picks(by, self._shapes, prompts, seeds or [0] * len(prompts), self.tokenizer.end)
        if self._begin is None:
            told = complete_by(picks, self.model, prompts, self._ends, most, batch_rows, size, passages, self.decoding.reads, until)
        else:
            check_passages(self.model, passages, len(prompts))
            told = [[] for _ in prompts]
            for row, token in guessed(self._begin, picks, self.model, self._ends, most, batch_rows, size, until):
                told[row].append(token)
        return [self._written(prompt, tokens) for prompt, tokens in zip(prompts, told, strict=True)]

    def stream(self, prompt: Sequence[int], seed: int = 0, passage: Sequence[int] | None = None) -> Iterator[str]:
        """What `write` gives, piece by piece: what may be part of a stop string waits until that is known. A search is waited for."""
        if isinstance(self.decoding.by, Search) or self.decoding.reads != "forward":
            return iter([self.write([prompt], [seed], None if passage is None else [passage])[0].text])
        picks = Picks(self.decoding.by, self._shapes, [prompt], [seed], self.tokenizer.end)
        most, size = self.decoding.max_new_tokens, self.tokenizer.vocab_size
        if self._begin is None:
            return self._stops.streamed(stream_by(picks, self.model, prompt, self._ends, most, size, passage))
        check_passages(self.model, None if passage is None else [passage], 1)
        return self._stops.streamed(token for _, token in guessed(self._begin, picks, self.model, self._ends, most, vocab_size=size))

    def _written(self, prompt: Sequence[int], tokens: list[int], score: float | None = None) -> Written:
        most = min(self.decoding.max_new_tokens, self.model.config.max_seq_len - len(prompt))
        stopped = bool(tokens) and self._stops.ended_by(tokens)
        return Written(self._stops.text(tokens), tokens, "stop" if stopped else "length" if len(tokens) >= most else "end", score)
