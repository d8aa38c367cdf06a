"""The telling: events become sentences, in several wordings, with pronouns where they cannot mislead."""

from itertools import pairwise

from bloomery.text.tales.draws import Draws
from bloomery.text.tales.lexicon import Mood
from bloomery.text.tales.questions import Query, choose, queries, reply, word
from bloomery.text.tales.world import Act, Enters, Event, Feels, Gives, Goes, Leaves, Lies, Person, Takes, Thing, World

# Most sentences name a place before who or what is there, as stories like to. A reader that goes from left to right, a causal model above all,
# then meets the name with its attribute already read; looking up from the name is learnt an order of magnitude sooner.

OPENINGS = (
    "One {weather} morning", "One {weather} day", "One {weather} evening", "On a {weather} morning", "On a {weather} day",
    "On a {weather} evening", "It was a {weather} day, and", "It was a {weather} morning, and",
)  # fmt: skip

ENTERS = ("{at} was the {role} {who}", "{at} stood the {role} {who}", "{at} waited the {role} {who}", "{at} sat the {role} {who}")
WITH = (" with {a}", ", who had {a}", ", who held {a}")
LIES = ("{at} there was {a}.", "{at} lay {a}.", "{at} was {a}.")
GOES = ("to {the} went {who}.", "to {the} walked {who}.", "to {the} ran {who}.", "to {the} hurried {who}.")
GOES_MEETING = ("to {the}, to see {met}, went {who}.", "to {the}, where {met} was, walked {who}.", "to {the}, to meet {met}, came {who}.")
CARRIES = ("to {the} went {who} with {things}.", "to {the} {who} carried {things}.", "to {the} {who} took {things}.")
GIVES = ("{who} gave {thing} to {to}.", "{who} gave {to} {thing}.", "{who} handed {thing} to {to}.", "{to} got {thing} from {who}.")
LEAVES = ("{at} {who} left {thing}.", "{at} {who} put {thing} down.", "{at} {who} set {thing} down.")
TAKES = ("{at} {who} took {thing}.", "{at} {who} picked up {thing}.", "{at} {who} found {thing} and kept it.")
FEELS = ("{who} was {mood} {cause}.", "{who} felt {mood} {cause}.", "{who} grew {mood} {cause}.")
LINKS = ("Then ", "Soon ", "Later ", "After that ", "Next ", "A little later ")

LISTENERS = ("the child", "the boy", "the girl", "the guest", "the traveller")
TELLERS = ("the old man", "the old woman", "the teller", "the aunt", "the uncle")

STATEMENTS = {
    "where_person": ("{answer} was {about}", "{answer} stayed {about}"),
    "where_thing": ("{answer} was {about}", "{answer} stayed {about}"),
    "where_carried": ("{answer} was {about}",),
    "who_has": ("{answer} had {about}", "{about} was with {answer}"),
    "holding": ("{about} had {answer}", "{about} kept {answer}"),
    "feeling": ("{about} was {answer}", "{about} felt {answer}"),
    "colour": ("{about} was {answer}",),
    "giver": ("{answer} was the one who gave {about} away",),
    "receiver": ("{answer} was the one who got {about}",),
    "work": ("{about} was {answer}",),
    "reason": ("{about} was {other} {answer}",),
}
"""How a known fact is stated in a closing line or a continuation."""

CLOSINGS = ("So in the end", "When night came,", "At the end of the day", "And so")


def tell(world: World, draws: Draws) -> tuple[str, list[Query]]:
    """The story of a world, and what its own closing lines have already answered."""
    sentences = _events(world, draws)
    known = [query for query in queries(world) if query.kind in STATEMENTS]
    sentences.append(f"{draws.pick(CLOSINGS)} {state(draws.take(known), draws)} and {state(draws.take(known), draws)}.")
    asked = choose(world, 4, (), draws)
    for query in asked:
        answer = reply(query)
        if query is asked[0]:
            sentences.append(f'"{word(query, draws)}" asked {draws.pick(LISTENERS)}. "{answer}," said {draws.pick(TELLERS)}.')
        else:
            sentences.append(f'"{word(query, draws)}" "{answer}."')
    return " ".join(sentences), asked


def state(query: Query, draws: Draws) -> str:
    """A known fact as a clause."""
    return draws.pick(STATEMENTS[query.kind]).format(about=query.about, other=query.other, answer=query.answer)


def _events(world: World, draws: Draws) -> list[str]:
    opening = draws.pick(OPENINGS).format(weather=draws.pick(world.lexicon.weather))
    sentences = [f"{opening} {_introduction(world.events[0], draws)}"]
    moods: dict[Person, Mood] = {}
    for before, event in pairwise(world.events):
        if isinstance(event, Enters | Lies):
            sentences.append(_capital(_introduction(event, draws)))
        else:
            pronoun = _pronoun_is_clear(before, event) and draws.chance(0.5)
            who = _pronoun(event.who) if pronoun else _name(event.who, draws)
            sentences.append(_capital(_link(event, moods, draws) + _act(event, who, draws)))
        if isinstance(event, Feels):
            moods[event.who] = event.mood
    return sentences


def _introduction(event: Event, draws: Draws) -> str:
    match event:
        case Enters(person, place, thing):
            text = draws.pick(ENTERS).format(who=person.name, role=person.role, at=place.at)
            return text + (draws.pick(WITH).format(a=thing.a) if thing else "") + "."
        case Lies(thing, place):
            return draws.pick(LIES).format(a=thing.a, at=place.at)
    raise AssertionError(f"{event} introduces nobody")


def _link(event: Act, moods: dict[Person, Mood], draws: Draws) -> str:
    """How a sentence is tied to those before it: by time, or by a mood that lasts."""
    if event.who in moods and draws.chance(0.5):
        return f"Still {moods[event.who].word}, "
    return draws.pick(LINKS) if draws.chance(0.4) else ""


def _name(who: Person, draws: Draws) -> str:
    """A person who is known already, often with what they do."""
    return f"the {who.role} {who.name}" if draws.chance(0.5) else who.name


def _the(thing: Thing, draws: Draws) -> str:
    """A thing that is known already, often with its colour."""
    return f"the {thing.colour} {thing.noun}" if draws.chance(0.6) else thing.the


def _act(event: Act, who: str, draws: Draws) -> str:
    match event:
        case Goes(_, place, carried, met):
            if carried:
                return draws.pick(CARRIES).format(who=who, the=place.the, things=" and ".join(_the(thing, draws) for thing in carried))
            if met and draws.chance(0.5):
                return draws.pick(GOES_MEETING).format(who=who, the=place.the, met=draws.pick(met).name)
            return draws.pick(GOES).format(who=who, the=place.the)
        case Gives(_, thing, to):
            # "Tilda got the rake from he" is no English: with a pronoun, the giver comes first.
            wordings = GIVES[:3] if who == _pronoun(event.who) else GIVES
            return draws.pick(wordings).format(who=who, thing=_the(thing, draws), to=to.name)
        case Leaves(_, thing, place):
            return draws.pick(LEAVES).format(who=who, thing=_the(thing, draws), at=place.at)
        case Takes(_, thing, place):
            return draws.pick(TAKES).format(who=who, thing=_the(thing, draws), at=place.at)
        case Feels(_, mood, cause):
            return draws.pick(FEELS).format(who=who, mood=mood.word, cause=cause)


def _pronoun_is_clear(before: Event, event: Act) -> bool:
    """Whether a pronoun for the one who acts can only mean them: they acted just before, and nobody else was named there."""
    if isinstance(before, Enters | Lies | Gives) or before.who != event.who or isinstance(event, Goes):
        return False  # "to the barn went she" is clear, but no English
    return not (isinstance(before, Goes) and before.met)


def _pronoun(who: Person) -> str:
    return "she" if who.she else "he"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
