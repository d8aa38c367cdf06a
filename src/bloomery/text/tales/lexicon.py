"""The words of the world: names of two words, and one vocabulary per domain.

Two rules keep training and held-out tales apart without a list of exceptions. Both are sums of positions modulo
`CLASSES`, so that exactly one fifth of the combinations is held out while every piece is seen in training:

- a name is a first and a second one; it is held out when the sum of their positions is a multiple of five;
- a thing and a place may share a held-out world only when the sum of their positions is a multiple of five, and a
  training world only when it is not.
"""

from typing import Literal, NamedTuple

Split = Literal["train", "held_out"]

CLASSES = 5
"""One combination in this many is held out."""


def _phrases(text: str) -> tuple[str, ...]:
    """The phrases between commas; a line break counts as a space."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


FIRST_SHE = _phrases(
    """Ada, Nora, Elsa, Mabel, Ruth, Clara, Alma, Edith, Greta, Hilda, Irma, Judith,
    Lydia, Martha, Olive, Petra, Rosa, Stella, Thea, Vera, Wanda, Yvonne, Zelda, Faye"""
)
"""First names of the people who are called "she"."""

FIRST_HE = _phrases(
    """Adam, Boris, Carl, David, Edgar, Felix, Gus, Hugo, Ivan, Jonas, Karl, Leo,
    Max, Ned, Otto, Paul, Ralph, Simon, Tom, Ulric, Victor, Walter, Yorick, Zach"""
)
"""First names of the people who are called "he"."""

FIRST = FIRST_SHE + FIRST_HE
"""Two people of one story never share a first name, as a considerate author would have it."""

LAST = _phrases(
    """Reed, Moss, Stone, Ford, Brook, Lane, Hill, Wood, Vale, Marsh, Frost, Snow, Fox, Wolf, Drake, Finch, Swan, Hart, Crane, Lamb,
    Baker, Mason, Potter, Smith, Turner, Carter, Fuller, Glover, Porter, Tyler, Ash, Birch, Rowan, Hazel, Holly, Ivy, Elm, Alder, Thorn, Sage"""
)
"""Second names."""


class Place(NamedTuple):
    """Somewhere to be."""

    at: str
    """With its preposition: "in the barn"."""
    the: str
    """Without it: "the barn"."""


class Mood(NamedTuple):
    """A feeling and the kind of cause that explains it."""

    word: str
    good: bool


class Lexicon(NamedTuple):
    """The vocabulary of one domain."""

    domain: str
    places: tuple[Place, ...]
    things: tuple[str, ...]
    roles: tuple[str, ...]
    good_causes: tuple[str, ...]
    bad_causes: tuple[str, ...]
    weather: tuple[str, ...]


def _places(text: str) -> tuple[Place, ...]:
    return tuple(Place(at, at.split(" ", 1)[1]) for at in _phrases(text))


FARM = Lexicon(
    domain="farm",
    places=_places(
        """in the barn, in the stable, in the orchard, in the kitchen, in the meadow,
        in the hayloft, in the dairy, in the cellar, in the garden, in the henhouse,
        by the well, by the pond, by the gate, by the fence, by the haystack,
        at the mill, at the forge, on the hill, on the porch, under the oak"""
    ),
    things=_phrases(
        """bucket, rake, saddle, basket, shovel, kettle, blanket, ladder, pitchfork, churn,
        jug, hat, scarf, spade, sack, bell, cheese, pie, pumpkin, broom,
        quilt, horseshoe, hammer, stool, apple"""
    ),
    roles=_phrases("farmer, shepherd, miller, baker, gardener, beekeeper, weaver, blacksmith, cook, milker"),
    good_causes=_phrases(
        """the lambs were safe, the bread was warm, the corn was tall, the cows were fed, the harvest was in,
        the apples were ripe, the hens were laying, the fence was mended, the fair was near, the hay was dry"""
    ),
    bad_causes=_phrases(
        """the well was dry, the hens were gone, the roof was leaking, the milk was sour, the mule was lame,
        the frost was hard, the crows were back, the wheat was wet, the fox was near, the plough was broken"""
    ),
    weather=_phrases("sunny, frosty, muddy, dusty, snowy, warm"),
)

HARBOUR = Lexicon(
    domain="harbour",
    places=_places(
        """on the pier, on the quay, on the deck, on the beach, on the jetty,
        on the ferry, on the raft, in the cabin, in the boathouse, in the tavern,
        in the chapel, in the cave, in the galley, at the lighthouse, at the dock,
        at the shipyard, by the slipway, by the seawall, under the crane, behind the warehouse"""
    ),
    things=_phrases(
        """net, rope, oar, compass, lantern, telescope, map, barrel, flag, sail,
        hook, shell, coat, flute, chest, bottle, pearl, drum, buoy, coin,
        mop, crate, whistle, key, chart"""
    ),
    roles=_phrases("sailor, fisher, captain, pilot, diver, cooper, trader, shipwright, clerk, rower"),
    good_causes=_phrases(
        """the tide was high, the wind was fair, the catch was big, the ship was home, the sea was calm,
        the nets were full, the storm was over, the crew was paid, the hull was sound, the gulls were quiet"""
    ),
    bad_causes=_phrases(
        """the fog was thick, the mast was split, the boat was late, the hold was flooded, the rum was lost,
        the waves were rough, the fish were few, the sails were torn, the reef was close, the paint was stolen"""
    ),
    weather=_phrases("foggy, windy, stormy, misty, salty, grey"),
)

LEXICONS = {"farm": FARM, "harbour": HARBOUR}

COLOURS = _phrases("red, blue, green, yellow, white, black, brown, pink, purple, orange, golden, silver")

MOODS = tuple(Mood(word, True) for word in _phrases("happy, proud, calm, cheerful, hopeful")) + tuple(
    Mood(word, False) for word in _phrases("sad, worried, angry, lonely, afraid")
)


def name_is_held_out(first: int, last: int) -> bool:
    """Whether the name made of these two words, by position, belongs to the held-out split."""
    return (first + last) % CLASSES == 0


def pair_is_held_out(thing: int, place: int) -> bool:
    """Whether this thing and this place, by position in their lexicon, meet in held-out worlds only."""
    return (thing + place) % CLASSES == 0


def names(split: Split) -> tuple[str, ...]:
    """Every name of a split, spelt out."""
    held_out = split == "held_out"
    every = ((i, j) for i in range(len(FIRST)) for j in range(len(LAST)))
    return tuple(f"{FIRST[i]} {LAST[j]}" for i, j in every if name_is_held_out(i, j) == held_out)
