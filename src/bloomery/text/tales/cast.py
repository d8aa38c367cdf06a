"""Who and what a story is about, drawn so that the two splits share pieces but no combination."""

from typing import NamedTuple

from bloomery.text.tales.draws import Draws
from bloomery.text.tales.lexicon import CLASSES, COLOURS, FIRST, FIRST_SHE, LAST, Lexicon, Split, name_is_held_out, pair_is_held_out
from bloomery.text.tales.world import Person, Thing, World

PLACES_PER_WORLD = 3


class Size(NamedTuple):
    """How much there is in a story."""

    people: tuple[int, ...]
    """How many people, each number as likely."""
    things: tuple[int, ...]
    """How many things, likewise."""
    acts: tuple[int, ...]
    """How many times somebody does something, likewise."""


SIZES = {
    "tiny": Size(people=(1, 1, 2), things=(1,), acts=(0, 1)),
    "small": Size(people=(2,), things=(1, 2), acts=(0, 1)),
    "full": Size(people=(2, 3), things=(2, 2, 3), acts=(2, 3)),
}

_LAST_FOR = {
    split: [[last for last in range(len(LAST)) if name_is_held_out(first, last) == (split == "held_out")] for first in range(CLASSES)]
    for split in ("train", "held_out")
}
"""The second names that a first name may take, by the class of the first."""


def cast(lexicon: Lexicon, split: Split, size: Size, draws: Draws) -> World:
    """An empty world of the split: people, things, and three places."""
    firsts, roles, lasts_used = list(range(len(FIRST))), list(lexicon.roles), set()
    people = []
    for _ in range(draws.pick(size.people)):
        first = draws.take(firsts)
        last = draws.pick([last for last in _LAST_FOR[split][first % CLASSES] if last not in lasts_used])
        lasts_used.add(last)
        people.append(Person(f"{FIRST[first]} {LAST[last]}", draws.take(roles), first < len(FIRST_SHE)))
    places, nouns = _stage(lexicon, split, draws)
    colours = list(COLOURS)
    things = [Thing(draws.take(nouns), draws.take(colours)) for _ in range(draws.pick(size.things))]
    return World(lexicon, people, things, [lexicon.places[place] for place in places])


def _stage(lexicon: Lexicon, split: Split, draws: Draws) -> tuple[list[int], list[str]]:
    """Three places, and the nouns that may share a story with all of them."""
    everywhere = list(range(len(lexicon.places)))
    places = [draws.take(everywhere)]
    while len(places) < PLACES_PER_WORLD:
        if split == "held_out":
            # Only places of one class leave things that are held out with each of them.
            everywhere = [place for place in everywhere if place % CLASSES == places[0] % CLASSES]
        places.append(draws.take(everywhere))
    held_out = split == "held_out"
    return places, [
        noun
        for thing, noun in enumerate(lexicon.things)
        if all(pair_is_held_out(thing, place) == held_out for place in places)
    ]
