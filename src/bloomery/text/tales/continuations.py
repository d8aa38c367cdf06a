"""A continuation that agrees with the world and one that contradicts it: ground truth for preferences and rewards."""

from dataclasses import dataclass

from bloomery.text.tales.draws import Draws
from bloomery.text.tales.lexicon import COLOURS, MOODS
from bloomery.text.tales.questions import Query, queries
from bloomery.text.tales.tell import STATEMENTS
from bloomery.text.tales.world import World

LEADS = ("The next day,", "In the morning,", "As all could see,", "Much later,", "To this day,")


@dataclass(frozen=True, slots=True)
class Continuation:
    """Two ways to go on that differ in one value."""

    better: str
    """Agrees with the facts."""
    worse: str
    """The same sentence with another person, place, thing, mood or colour in it, which contradicts the facts."""
    reason: str
    """What `worse` gets wrong: "where_thing of the rake: by the well, not in the barn"."""


def continuation(world: World, draws: Draws) -> Continuation:
    """A pair of continuations about one thing that the world determines."""
    others = {query: _others(world, query) for query in queries(world) if query.kind in STATEMENTS}
    query = draws.pick([query for query, wrong_answers in others.items() if wrong_answers])
    wrong = draws.pick(others[query])
    lead, wording = draws.pick(LEADS), draws.pick(STATEMENTS[query.kind])
    better, worse = (f"{lead} {wording.format(about=query.about, other=query.other, answer=answer)}." for answer in (query.answer, wrong))
    return Continuation(better, worse, f"{query.kind} of {query.about}: {query.answer}, not {wrong}")


def _others(world: World, query: Query) -> list[str]:
    """Wrong answers of the right sort, from the same story where it has any, so that a plausible word is not enough."""
    match query.kind:
        case "where_person" | "where_thing" | "where_carried":
            sort = [place.at for place in world.places]
        case "who_has" | "giver" | "receiver":
            sort = [who.name for who in world.people]
        case "holding":
            sort = [thing.the for thing in world.things]
        case "feeling":
            sort = [mood.word for mood in MOODS]
        case "reason":
            sort = [f"because {cause}" for cause in (*world.lexicon.good_causes, *world.lexicon.bad_causes)]
        case "colour":
            sort = list(COLOURS)
        case "work":
            sort = [f"the {role}" for role in world.lexicon.roles]
        case _:
            raise AssertionError(f"no other answers for {query.kind}")
    return [answer for answer in sort if answer != query.answer]
