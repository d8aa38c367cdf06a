"""`Watch`: what a training measures along the way."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt

from bloomery.core.config import Config
from bloomery.core.units import Tokens
from bloomery.generate import Greedy, Sampler
from bloomery.stages.tokenize import Tokenize
from bloomery.text.chat import ChatTemplate
from bloomery.train.statistics import Statistics


class Watch(Config):
    """What is measured at step 0, on a period, and at the end. None of it changes the weights."""

    held_out: tuple[Tokenize, ...] = ()
    """Corpora whose bits per byte are measured; each under its stage's name."""
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
