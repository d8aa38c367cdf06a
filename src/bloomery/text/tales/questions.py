"""What a world can be asked, and how the asking is worded."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bloomery.text.tales.draws import Draws
from bloomery.text.tales.world import Goes, World

Kind = Literal[
    "where_person", "where_first", "where_thing", "where_carried", "who_has", "holding",
    "giver", "receiver", "gift", "feeling", "reason", "colour", "work", "worker",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one tale, with the only right answer."""

    text: str
    answer: str
    """A short sentence: "They say the rake is in the barn"."""
    kind: Kind
    value: str
    """What the answer tells: "in the barn"."""


class Query(NamedTuple):
    """A question before it is worded: "where_thing" about "the lantern"."""

    kind: Kind
    about: str
    other: str
    answer: str


WORDINGS: dict[Kind, tuple[str, ...]] = {
    "where_person": ("Where is {about} now?", "Where did {about} end up?"),
    "where_first": ("Where was {about} at first?", "Where did {about} start?"),
    "where_thing": ("Where is {about} now?", "Where did {about} end up?"),
    "where_carried": ("Where is {about} now?", "Where did {about} end up?"),
    "who_has": ("Who has {about} now?", "Who holds {about} now?"),
    "holding": ("What does {about} have now?", "What does {about} hold now?"),
    "giver": ("Who gave {about} away?", "Who gave {about} to {other}?"),
    "receiver": ("Who was given {about}?", "Who got {about} from {other}?"),
    "gift": ("What did {about} give to {other}?", "What did {other} get from {about}?"),
    "feeling": ("How does {about} feel?", "How is {about} feeling?"),
    "reason": ("Why is {about} {other}?", "Why does {about} feel {other}?"),
    "colour": ("What colour is {about}?", "Of what colour is {about}?"),
    "work": ("Who is {about}?", "What is {about}?"),
    "worker": ("Who is {about}?", "Who does the work of {about}?"),
}

REPLIES: dict[Kind, str] = {
    "where_person": "{about} is {answer}", "where_first": "{about} was {answer}", "where_thing": "{about} is {answer}",
    "where_carried": "{about} is {answer}", "who_has": "{about} is with {answer}", "holding": "{about} has {answer}",
    "giver": "{about} came from {answer}", "receiver": "{about} went to {answer}", "gift": "{about} gave {other} {answer}",
    "feeling": "{about} feels {answer}", "reason": "{about} feels {other} {answer}", "colour": "{about} is {answer}",
    "work": "{about} is {answer}", "worker": "{about} is {answer}",
}  # fmt: skip
"""How answers are worded: as whole sentences that come to the point by way of what was asked about."""

LEAD = "They say "
"""Before each answer, so that a name never begins one: after a blank it is the same token as in the story, at the beginning it is another."""

KINDS: tuple[Kind, ...] = tuple(WORDINGS)

MAX_QUESTIONS = 6


def queries(world: World) -> list[Query]:
    """Everything that the world as it is now determines."""
    found: list[Query] = []

    def ask(kind: Kind, about: str, other: str, answer: str) -> None:
        found.append(Query(kind, about, other, answer))

    for who, place in world.place_of.items():
        ask("where_person", who.name, "", place.at)
        ask("work", who.name, "", f"the {who.role}")
        ask("worker", f"the {who.role}", "", who.name)
        held = world.held_by(who)
        if len(held) == 1:
            ask("holding", who.name, "", held[0].the)
    for who in {event.who: None for event in world.events if isinstance(event, Goes)}:
        ask("where_first", who.name, "", world.first_place_of[who].at)
    for thing, place in world.lies_at.items():
        ask("where_thing", thing.the, "", place.at)
    for thing, who in world.holder_of.items():
        ask("where_carried", thing.the, "", world.place_of[who].at)
        ask("who_has", thing.the, "", who.name)
    for thing, gift in world.gift.items():
        ask("giver", thing.the, gift.to.name, gift.who.name)
        ask("receiver", thing.the, gift.who.name, gift.to.name)
        ask("gift", gift.who.name, gift.to.name, thing.the)
    for who, feels in world.mood_of.items():
        ask("feeling", who.name, "", feels.mood.word)
        ask("reason", who.name, feels.mood.word, feels.cause)
    for thing in (*world.holder_of, *world.lies_at):
        ask("colour", thing.the, "", thing.colour)
    return found


def word(query: Query, draws: Draws) -> str:
    """The query as a sentence."""
    return draws.pick(WORDINGS[query.kind]).format(about=query.about, other=query.other)


def reply(query: Query) -> str:
    """The answer as somebody would give it: "They say the rake is in the barn"."""
    return LEAD + REPLIES[query.kind].format(about=query.about, other=query.other, answer=query.answer)


def choose(world: World, n: int, told: Collection[Query], draws: Draws) -> list[Query]:
    """Up to `n` different queries that `told` has not: a kind first and then one of that kind, so that rare kinds are asked as often."""
    answered = {(query.kind, query.about) for query in told}
    of_kind: dict[Kind, list[Query]] = {}
    for query in queries(world):
        if (query.kind, query.about) not in answered:
            of_kind.setdefault(query.kind, []).append(query)
    kinds = list(of_kind)
    chosen = []
    while len(chosen) < n and kinds:
        kind = draws.take(kinds)
        chosen.append(draws.take(of_kind[kind]))
    return chosen


def choose_questions(world: World, told: Collection[Query], draws: Draws) -> tuple[Question, ...]:
    """Up to six questions of different kinds about the final state, none of which the story has itself asked and answered."""
    chosen = choose(world, MAX_QUESTIONS, told, draws)
    return tuple(Question(word(query, draws), reply(query), query.kind, query.answer) for query in chosen)
