"""Who and what a story is about, drawn so that the two splits share pieces but no combination."""

from bloomery.text.tales.draws import Draws
from bloomery.text.tales.lexicon import CLASSES, COLOURS, FIRST, LAST, LAST_SHE, Lexicon, Split, name_is_held_out, pair_is_held_out
from bloomery.text.tales.world import Person, Thing, World

PLACES_PER_WORLD = 3

_LAST_FOR = {
    split: [[last for last in range(len(LAST)) if name_is_held_out(first, last) == (split == "held_out")] for first in range(CLASSES)]
    for split in ("train", "held_out")
}
"""The last syllables that a first syllable may take, by the class of the first."""


def cast(lexicon: Lexicon, split: Split, draws: Draws) -> World:
    """An empty world of the split: two or three people, two or three things, three places."""
    firsts, roles, lasts_used = list(range(len(FIRST))), list(lexicon.roles), set()
    people = []
    for _ in range(draws.weighted((2, 3), (0.35, 0.65))):
        first = draws.take(firsts)
        last = draws.pick([last for last in _LAST_FOR[split][first % CLASSES] if last not in lasts_used])
        lasts_used.add(last)
        people.append(Person(FIRST[first] + LAST[last], draws.take(roles), last < len(LAST_SHE)))
    places, nouns = _stage(lexicon, split, draws)
    colours = list(COLOURS)
    things = [Thing(draws.take(nouns), draws.take(colours)) for _ in range(draws.weighted((2, 3), (0.6, 0.4)))]
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
