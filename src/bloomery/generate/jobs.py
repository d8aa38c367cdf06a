"""`Job`: a text that an engine is to write, and what there is of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.generate.dola import DoLa
from bloomery.generate.picks import Picks
from bloomery.generate.rules import Shape, Text
from bloomery.generate.samplers import Random
from bloomery.generate.search import Search
from bloomery.generate.stops import Stops
from bloomery.generate.writer import Decoding
from bloomery.text.tokenizer import Tokenizer


class Told(NamedTuple):
    """What the model, before sampler and rules, says of a token; or what the sampler makes of it (`Job.tells_by`).

    Attributes:
        token: its id.
        logprob: its log-probability, in nats; None for the first token of a prompt, which nothing was before.
        likeliest: the likeliest tokens with theirs, the likeliest first.
    """

    token: int
    logprob: float | None
    likeliest: list[tuple[int, float]]


@dataclass(frozen=True)
class Course:
    """How a text is found by a search, which needs rows of its own and knows it as a whole only.

    Attributes:
        by: the search.
        shapes: rules that are ready to be followed.
        seed: of what it draws.
    """

    by: Search
    shapes: Sequence[Shape] = ()
    seed: int = 0


@dataclass(eq=False)
class Job:
    """A text that is to be written, and what there is of it.

    Attributes:
        prompt: token ids.
        pick: of this text alone: by `Picks` guesses are made and checked, too; a function, (1, vocab) logits → the next token's id, has
            nothing guessed; by a `Course` it is there at once, in the end.
        limit: the most that are written; 0 only reads the prompt.
        until: whether new tokens end the text, the last of them being part of it; None never does.
        tells: how many of the likeliest tokens are told with each token; None tells none of it.
        tells_by: the sampler, where what is told is what tokens are drawn by; None tells what the model says.
        echoes: whether the prompt is part of what is asked for, so that its tokens are told too.
        contrast: has an earlier layer's opinion taken off the last one's before it is picked by; None for what the model says.
        tokens: what is written, but the token that ends texts.
        told: of each token that is told, in their order; the one that ends the text is among them.
        ended: by what; None while it goes on.
        fault: what went wrong with this text alone, which has no more then.
        reused: tokens of the prompt that were remembered.
        guessed: tokens that were guessed.
        stood: how many of these it has.
    """

    prompt: Sequence[int]
    pick: Picks | Callable[[Tensor], int] | Course
    limit: int
    until: Callable[[Sequence[int]], bool] | None = None
    tells: int | None = None
    tells_by: Random | None = None
    echoes: bool = False
    contrast: DoLa | None = None
    tokens: list[int] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    ended: Literal["end", "stop", "length"] | None = None
    fault: Exception | None = None
    reused: int = 0
    guessed: int = 0
    stood: int = 0

    @property
    def text(self) -> Text:
        """The prompt, and what is written."""
        return Text(self.prompt, self.tokens)

    def check(self, logits: Float[Tensor, "time vocab"], guessed: Sequence[int], by: Float[Tensor, "guesses vocab"] | None) -> list[int]:
        """As many of some guesses as stand, and one token more; see `Picks.check`."""
        assert not isinstance(self.pick, Course), "a search has no rows of an engine"
        return self.pick.check(logits, 0, guessed, by) if isinstance(self.pick, Picks) else [self.pick(logits)]

    def tell(self, tokens: Sequence[int], logits: Float[Tensor, "time vocab"], vocab_size: int | None) -> None:
        """Notes what the model says of each of some tokens, where that is asked for. Logits go as far as tokens, or farther, or not as far."""
        if self.tells is None:
            return
        if self.tells_by is not None:
            logits = self.tells_by.cut(logits[:, :vocab_size])
        self.told += [told(its, token, self.tells, vocab_size) for token, its in zip(tokens, logits, strict=False)]

    def take(self, token: int, logits: Float[Tensor, " vocab"], ends: frozenset[int], vocab_size: int | None) -> None:
        """Puts a token behind the text, unless it is one of those that end texts; and says what has ended, where something has."""
        self.tell([token], logits[None], vocab_size)
        if token in ends:
            self.ended = "end"
            return
        self.tokens.append(token)
        if self.until is not None and self.until(self.tokens):
            self.ended = "stop"
        elif len(self.tokens) >= self.limit:
            self.ended = "length"


def told(logits: Float[Tensor, " vocab"], token: int, count: int, vocab_size: int | None) -> Told:
    """What logits say of a token, and which of the tokenizer's are the likeliest.

    Rows of a table that no token has take their share of what is likely, as they do in the loss and in every measurement.
    """
    logprobs = logits.float().log_softmax(-1)
    known = logprobs[:vocab_size]
    best = known.topk(min(count, len(known)))
    likeliest = [(its, value) for its, value in zip(best.indices.tolist(), best.values.tolist(), strict=True) if value > -math.inf]
    return Told(token, float(logprobs[token]), likeliest)


def job_by(
    decoding: Decoding, tokenizer: Tokenizer, prompt: Sequence[int], seed: int = 0, tells: int | None = None, echoes: bool = False,
    tells_by: Random | None = None,
) -> Job:
    """A text that is written as a `Writer` with this decoding writes it.

    Args:
        decoding: how.
        tokenizer: the model's.
        prompt: token ids.
        seed: of what the sampler draws.
        tells: see `Job`.
        echoes: see `Job`.
        tells_by: see `Job`.

    Raises:
        ConfigError: it asks for what is no matter of a text alone, or a rule cannot be followed.
    """
    if decoding.draft is not None or decoding.reads != "forward":
        raise ConfigError("Decoding.draft and .reads are of a whole engine, not of a text; leave them as they are")
    by, shapes = decoding.by, [rule.ready(tokenizer) for rule in decoding.rules]
    pick = Course(by, shapes, seed) if isinstance(by, Search) else Picks(by, shapes, [prompt], [seed], tokenizer.end)
    until = Stops(decoding.stops, tokenizer).ended_by if decoding.stops else None
    return Job(prompt, pick, decoding.max_new_tokens, until, tells, tells_by, echoes, decoding.contrast)
