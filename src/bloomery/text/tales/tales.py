"""`Tales`: a seeded, endless book of short stories about a small world, each with its truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

from bloomery.core.config import Config
from bloomery.core.rng import python_rng
from bloomery.text.tales.cast import SIZES, cast
from bloomery.text.tales.continuations import LEADS, Continuation, continuation
from bloomery.text.tales.draws import Draws
from bloomery.text.tales.lexicon import LEXICONS, Split
from bloomery.text.tales.questions import WORDINGS, Question, choose_questions, queries, reply
from bloomery.text.tales.tell import STATEMENTS, tell
from bloomery.text.tales.world import Fact, World, live


@dataclass(frozen=True, slots=True)
class Tale:
    """A story and all that is true in it."""

    id: str
    """Stable: "tales/{seed}/{split}/{domain}/{index}", as they were asked for; a size other than "full" stands before the index."""
    text: str
    """The story, one paragraph."""
    domain: str
    """"farm" or "harbour"."""
    facts: tuple[Fact, ...]
    """What each event made true, in order; see `Fact`."""
    questions: tuple[Question, ...]
    """Up to `MAX_QUESTIONS`, in random order; none repeats what the story's own closing dialogue has answered."""
    continuation: Continuation
    """How the story could go on, rightly and wrongly."""

    @property
    def whereabouts(self) -> str:
        """Where everybody and everything is in the end: "Ada Reed is in the barn; the rake is with Ada Reed"."""
        last: dict[str, str] = {}
        for fact in self.facts:
            match fact.relation:
                case "is":
                    last[fact.subject] = f"{fact.subject} is {fact.value}"
                case "lies":
                    last[fact.subject] = f"the {fact.subject} is {fact.value}"
                case "held by":
                    last[fact.subject] = f"the {fact.subject} is with {fact.value}"
        return "; ".join(last.values())

    @property
    def better(self) -> str:
        """A next sentence that agrees with the facts."""
        return self.continuation.better

    @property
    def worse(self) -> str:
        """The same sentence, contradicting one fact."""
        return self.continuation.worse

    @property
    def reason(self) -> str:
        """Which fact `worse` contradicts."""
        return self.continuation.reason


class Tales(Config):
    """An endless book of tales; page `index` is the same for everyone who opens a book with these fields.

    Example:
        >>> tale = Tales(seed=0, domain="farm", split="held_out").tale(0)
        >>> tale.id
        'tales/0/held_out/farm/0'
    """

    seed: int = 0
    """Another seed is another book."""
    domain: Literal["farm", "harbour", "both"] = "both"
    """Which vocabulary: each tale of "both" is set in one of the two."""
    split: Split = "train"
    """Held-out tales have names, and things in places, that no training tale has."""
    size: Literal["tiny", "small", "full", "short"] = "full"
    """A full tale has two or three people and some 100 words; a small one two people and one or two things; a tiny one has little to confuse.
    A model that reads tiny ones among small ones ("short": as many of each) learns to look things up much sooner than from small ones alone."""

    def tale(self, index: int) -> Tale:
        """Tale number `index`, from 0, made on the spot."""
        draws = self._draws(index)
        world = self._world(draws)
        text, told = tell(world, draws)
        questions = choose_questions(world, told, draws)
        return Tale(f"{self.name()}/{index}", text, world.lexicon.domain, tuple(world.facts), questions, continuation(world, draws))

    def tales(self, n: int | None = None, start: int = 0) -> Iterator[Tale]:
        """Tales `start` to `start + n`; without `n` there is no last one."""
        indices = count(start) if n is None else range(start, start + n)
        return (self.tale(index) for index in indices)

    def answers(self, index: int) -> dict[str, str]:
        """Every question that tale `index` determines, in each of its wordings, with the only right answer."""
        world = self._world(self._draws(index))
        return {
            wording.format(about=query.about, other=query.other): reply(query)
            for query in queries(world) for wording in WORDINGS[query.kind]
        }  # fmt: skip

    def truths(self, index: int) -> frozenset[str]:
        """Every sentence that could come next in tale `index` and be true: what the world determines, in each of its wordings, behind each
        of the leads; `better` is one of them, and `worse` is none."""
        world = self._world(self._draws(index))
        told = {
            wording.format(about=query.about, other=query.other, answer=query.answer)
            for query in queries(world) if query.kind in STATEMENTS for wording in STATEMENTS[query.kind]
        }  # fmt: skip
        return frozenset(f"{lead} {one}." for lead in LEADS for one in told)

    @classmethod
    def of_id(cls, id: str) -> tuple[Tales, int] | None:
        """The book that a tale's id is of, and its number there; None where it is the id of something else."""
        found = re.fullmatch(r"tales/(-?\d+)/(train|held_out)/(farm|harbour|both)(?:/(tiny|small|short))?/(\d+)", id)
        if found is None:
            return None
        seed, split, domain, size, index = found.groups()
        return cls.model_validate({"seed": int(seed), "split": split, "domain": domain, "size": size or "full"}), int(index)

    def name(self) -> str:
        """What the ids of this book's tales start with."""
        of_size = "" if self.size == "full" else f"/{self.size}"
        return f"tales/{self.seed}/{self.split}/{self.domain}{of_size}"

    def bits(self, index: int) -> tuple[float, float]:
        """The bits of chance in tale `index`: those spent on its world, and those spent on its telling."""
        draws = self._draws(index)
        world = self._world(draws)
        spent_on_world = draws.bits
        tell(world, draws)
        return spent_on_world, draws.bits - spent_on_world

    def _draws(self, index: int) -> Draws:
        return Draws(python_rng("tales", self.seed, self.split, self.domain, self.size, index))

    def _world(self, draws: Draws) -> World:
        domain = draws.pick(("farm", "harbour")) if self.domain == "both" else self.domain
        size = SIZES[draws.pick(("tiny", "small")) if self.size == "short" else self.size]
        world = cast(LEXICONS[domain], self.split, size, draws)
        live(world, draws.pick(size.acts), draws)
        return world
