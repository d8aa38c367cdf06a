"""`Watch`: what a training measures along the way."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.units import Tokens
from bloomery.generate import Greedy, Sampler
from bloomery.stages.tokenize import Tokenize
from bloomery.text.chat import ChatTemplate
from bloomery.train.statistics import Statistics
from bloomery.train.stopping import right_of


class Suite(Config):
    """Questions that are put to a model along its training: how many it answers with exactly the expected words, greedily."""

    tokens: Tokenize
    """Conversations that it does not train on, encoded as `Chat()`."""
    side: Literal["old", "new"] = "old"
    """Whether it is about what the model knew before, or about what it is to learn."""
    questions: Annotated[int, Gt(0)] = 500
    """Asked at most, or a few more; always the same ones."""

    @property
    def name(self) -> str:
        """What it is called in the metrics."""
        return self.tokens.name

    def check(self) -> None:
        if not self.tokens.encoding.masked:
            raise ConfigError(f"Suite.tokens={self.tokens.reference} does not say what in it is an answer; encode conversations as Chat()")


class Watch(Config):
    """What is measured at step 0, on a period, and at the end. None of it changes the weights."""

    held_out: tuple[Tokenize, ...] = ()
    """Corpora whose bits per byte are measured; each under its stage's name."""
    suites: tuple[Suite, ...] = ()
    """Questions about what the model knew before and what it is to learn, with what of the best it has lost: `suite/<name>/right` and
    `suite/<name>/forgotten`; drawn in `watch.svg`."""
    prompts: tuple[str, ...] = ()
    """Texts that the model is to go on with, or messages that it is to answer."""
    every: Annotated[int, Gt(0)] | None = None
    """Steps between measurements; None measures at the start and at the end only."""
    tokens: Tokens = 65_536
    """Measured at most per corpus, the same ones each time."""
    template: ChatTemplate | None = None
    """Puts each prompt as a user's message; None as the beginning of a document."""
    sampler: Sampler = Greedy()
    """How to pick the answers' tokens."""
    max_new_tokens: Tokens = 48
    """Length of the answers at most."""
    statistics: Statistics | None = None
    """Figures of each layer, on a period of their own: `Statistics(every=100)`; None for none."""

    @property
    def figures(self) -> list[str]:
        """What is measured at each time, by the names that rules can ask for."""
        texts = [f"held_out/{tokens.name}/{what}" for tokens in self.held_out for what in ("bits_per_byte", "loss")]
        return [*texts, *(right_of(suite.name) for suite in self.suites)]
