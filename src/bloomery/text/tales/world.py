"""The simulated world: who is where, who holds what, who feels how and why; and the facts that follow.

A world changes only by events, and every event records what it made true as facts. A tale is the telling of the events; its
questions are answered from the state.
"""

from typing import NamedTuple

from bloomery.text.tales.draws import Draws
from bloomery.text.tales.lexicon import MOODS, Lexicon, Mood, Place


class Fact(NamedTuple):
    """`subject relation value`, true from event number `step` until a later fact replaces it.

    Relations of a person: "works as", "is" (a place), "feels", "because". Of a thing: "colour", "lies" (a place), "held by",
    "given by", "given to". A thing that is held is where its holder is.
    """

    step: int
    subject: str
    relation: str
    value: str


class Person(NamedTuple):
    """Somebody in a story."""

    name: str
    role: str
    she: bool


class Thing(NamedTuple):
    """Something that can be carried."""

    noun: str
    colour: str

    @property
    def the(self) -> str:
        """ "the lantern"."""
        return f"the {self.noun}"

    @property
    def a(self) -> str:
        """ "an orange lantern"."""
        return f"an orange {self.noun}" if self.colour == "orange" else f"a {self.colour} {self.noun}"


class Enters(NamedTuple):
    """A person is first seen, perhaps holding something."""

    who: Person
    place: Place
    thing: Thing | None


class Lies(NamedTuple):
    """A thing that nobody holds is first seen."""

    thing: Thing
    place: Place


class Goes(NamedTuple):
    """A person moves, with all that they hold."""

    who: Person
    place: Place
    carried: tuple[Thing, ...]
    met: tuple[Person, ...]


class Gives(NamedTuple):
    """A person hands a thing to another who is in the same place."""

    who: Person
    thing: Thing
    to: Person


class Leaves(NamedTuple):
    """A person puts a thing down where they are."""

    who: Person
    thing: Thing
    place: Place


class Takes(NamedTuple):
    """A person picks up a thing that lies where they are."""

    who: Person
    thing: Thing
    place: Place


class Feels(NamedTuple):
    """A person comes to feel something; `cause` starts with "because"."""

    who: Person
    mood: Mood
    cause: str


Act = Goes | Gives | Leaves | Takes | Feels
"""What somebody (`who`) does or comes to feel."""

Event = Enters | Lies | Act


class World:
    """The state of one story, and the events and facts that led to it."""

    def __init__(self, lexicon: Lexicon, people: list[Person], things: list[Thing], places: list[Place]) -> None:
        self.lexicon = lexicon
        self.people = people
        self.things = things
        self.places = places
        self.place_of: dict[Person, Place] = {}
        self.first_place_of: dict[Person, Place] = {}
        self.holder_of: dict[Thing, Person] = {}
        self.lies_at: dict[Thing, Place] = {}
        self.gift: dict[Thing, Gives] = {}
        self.mood_of: dict[Person, Feels] = {}
        self.events: list[Event] = []
        self.facts: list[Fact] = []

    def happen(self, event: Event) -> None:
        """Changes the state by one event and records what it made true."""
        step = len(self.events)
        self.events.append(event)
        fact = self.facts.append
        match event:
            case Enters(who, place, thing):
                self.place_of[who] = self.first_place_of[who] = place
                fact(Fact(step, who.name, "works as", who.role))
                fact(Fact(step, who.name, "is", place.at))
                if thing:
                    self.holder_of[thing] = who
                    fact(Fact(step, thing.noun, "colour", thing.colour))
                    fact(Fact(step, thing.noun, "held by", who.name))
            case Lies(thing, place):
                self.lies_at[thing] = place
                fact(Fact(step, thing.noun, "colour", thing.colour))
                fact(Fact(step, thing.noun, "lies", place.at))
            case Goes(who, place):
                self.place_of[who] = place
                fact(Fact(step, who.name, "is", place.at))
            case Gives(who, thing, to):
                self.holder_of[thing] = to
                self.gift[thing] = event
                fact(Fact(step, thing.noun, "held by", to.name))
                fact(Fact(step, thing.noun, "given by", who.name))
                fact(Fact(step, thing.noun, "given to", to.name))
            case Leaves(who, thing, place):
                del self.holder_of[thing]
                self.lies_at[thing] = place
                fact(Fact(step, thing.noun, "lies", place.at))
            case Takes(who, thing):
                del self.lies_at[thing]
                self.holder_of[thing] = who
                fact(Fact(step, thing.noun, "held by", who.name))
            case Feels(who, mood, cause):
                self.mood_of[who] = event
                fact(Fact(step, who.name, "feels", mood.word))
                fact(Fact(step, who.name, "because", cause))

    def held_by(self, who: Person) -> tuple[Thing, ...]:
        """The things in a person's hands."""
        return tuple(thing for thing, holder in self.holder_of.items() if holder == who)

    def at(self, place: Place) -> tuple[Person, ...]:
        """The people in a place."""
        return tuple(who for who, where in self.place_of.items() if where == place)

    def moves(self) -> dict[str, list[Event]]:
        """What could happen next, by kind. Nobody undoes at once what was just done, and a thing is given once at most."""
        last = self.events[-1]
        touched = last.thing if isinstance(last, Gives | Leaves | Takes) else None
        give, leave, take, go = [], [], [], []
        for thing, holder in self.holder_of.items():
            place = self.place_of[holder]
            if thing not in self.gift:
                pair_has_given = [(gift.who, gift.to) for gift in self.gift.values()]
                give += [Gives(holder, thing, to) for to in self.at(place) if to != holder and (holder, to) not in pair_has_given]
            if thing != touched:
                leave.append(Leaves(holder, thing, place))
        for thing, place in self.lies_at.items():
            if thing != touched:
                take += [Takes(who, thing, place) for who in self.at(place)]
        for who, here in self.place_of.items():
            if not (isinstance(last, Goes) and last.who == who):
                go += [Goes(who, place, self.held_by(who), self.at(place)) for place in self.places if place != here]
        return {"give": give, "leave": leave, "take": take, "go": go}


_WEIGHT = {"give": 4.0, "leave": 1.5, "take": 2.5, "go": 3.0}


def live(world: World, acts: int, draws: Draws) -> None:
    """Fills an empty world with people and things, then lets somebody do something `acts` times, and one or two come to feel something."""
    loose = list(world.things)
    for number, who in enumerate(world.people):
        holds = bool(loose) and (number == 0 or draws.chance(0.4))
        world.happen(Enters(who, draws.pick(world.places), loose.pop() if holds else None))
    for thing in loose:
        world.happen(Lies(thing, draws.pick(world.places)))
    feelings = draws.weighted((1, 2), (0.7, 0.3)) if acts > 1 else 1
    turns = [True] * feelings + [False] * acts
    while turns:
        if draws.take(turns):
            _feel(world, draws)
        else:
            _act(world, draws)


def _act(world: World, draws: Draws) -> None:
    moves = {kind: events for kind, events in world.moves().items() if events}
    kind = draws.weighted(list(moves), [_WEIGHT[kind] for kind in moves])
    world.happen(draws.pick(moves[kind]))


def _feel(world: World, draws: Draws) -> None:
    """Somebody without a mood gets one: from a gift just received, or from how things are."""
    last = world.events[-1]
    felt = [event.mood for event in world.mood_of.values()]
    if isinstance(last, Gives) and last.to not in world.mood_of:
        good = [mood for mood in MOODS if mood.good and mood not in felt]
        world.happen(Feels(last.to, draws.pick(good), f"because of {last.thing.the}"))
        return
    who = draws.pick([who for who in world.people if who not in world.mood_of])
    mood = draws.pick([mood for mood in MOODS if mood not in felt])
    causes = world.lexicon.good_causes if mood.good else world.lexicon.bad_causes
    used = [event.cause for event in world.mood_of.values()]
    cause = draws.pick([cause for cause in causes if f"because {cause}" not in used])
    world.happen(Feels(who, mood, f"because {cause}"))
