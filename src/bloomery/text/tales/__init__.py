"""Short coherent stories about a small simulated world, with every fact known: our embedded corpus and a measuring instrument.

    lexicon     words: names, and one vocabulary per domain; what is held out
    draws       random choices that count their entropy
    cast        who and what a story is about
    world       the simulation: events change a state and leave facts
    tell        events as sentences
    questions   what a world can be asked, and its answers
    continuations  one that agrees with the facts, one that does not
    tales       all of it by index: `Tales(seed=0).tale(17)`
    dirt        documents spoilt in known ways, with labels
    census      how many names, worlds and bits there are: `python -m bloomery.text.tales`
"""

from bloomery.text.tales.census import Census, census
from bloomery.text.tales.continuations import Continuation
from bloomery.text.tales.dirt import NEAR_JACCARD, Detail, Dirt, Document, Label, Span, jaccard
from bloomery.text.tales.questions import KINDS, MAX_QUESTIONS, Kind, Question
from bloomery.text.tales.tales import Tale, Tales
from bloomery.text.tales.world import Fact

__all__ = [
    "KINDS", "MAX_QUESTIONS", "NEAR_JACCARD", "Census", "Continuation", "Detail", "Dirt", "Document", "Fact", "Kind", "Label", "Question",
    "Span", "Tale", "Tales", "census", "jaccard",
]  # fmt: skip
