"""Dirt with labels: documents spoilt in known ways, so that cleaning can be scored against the truth.

Each document's label is drawn from its index alone and its content from the tales, so that any document can be made by itself, and a
duplicate can point at an earlier clean one without anything being remembered.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.rng import python_rng
from bloomery.text.tales.draws import Draws
from bloomery.text.tales.foreign import foreign
from bloomery.text.tales.tales import Tales

Label = Literal[
    "clean", "exact_duplicate", "near_duplicate", "boilerplate", "mojibake", "foreign", "personal_data", "leaked_question"
]  # fmt: skip

Share = Annotated[float, Field(ge=0, le=1)]

NEAR_JACCARD = (0.6, 0.95)
"""A near duplicate shares this much of its word trigrams (intersection over union) with its original."""

HEADERS = (
    "Home | Stories | About us | Contact", "Skip to main content", "Sign in or register to keep reading", "Share this story with your friends",
    "You are here: Home > Library > Tales",
)  # fmt: skip
FOOTERS = (
    "All rights reserved. No part of this page may be copied.", "Subscribe to our newsletter for a new story every week!",
    "We use cookies to improve your visit. Accept all cookies?", "Posted in Stories. Leave a comment below.", "Click here to read more",
)  # fmt: skip
STREETS = ("Mill Lane", "Quay Street", "Orchard Road", "Chapel Row", "Well Close")


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `start` to `end` of a document, and what they are."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Detail:
    """The truth about a spoilt document."""

    of: str = ""
    """A duplicate's original document; a leaked question's tale and number ("tales/…/17#2"); otherwise empty."""
    note: str = ""
    """The language of a foreign document, the codec of mojibake, the similarity of a near duplicate."""
    spans: tuple[Span, ...] = ()
    """Where the boilerplate, personal data or leak is."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a dirty corpus, with what it is."""

    id: str
    text: str
    label: Label
    detail: Detail


class Dirt(Config):
    """How much of a corpus is spoilt, and how. Each rate is a share of all documents; what they leave is clean."""

    seed: int = 0
    """Which documents are spoilt, and with what."""
    exact_duplicate: Share = 0.04
    """Byte for byte an earlier clean document."""
    near_duplicate: Share = 0.04
    """An earlier clean document with some words dropped, doubled or swapped."""
    boilerplate: Share = 0.03
    """A tale between a page's header and footer."""
    mojibake: Share = 0.03
    """A tale with curly quotation marks whose UTF-8 was read as Windows-1252."""
    foreign: Share = 0.03
    """A text in German, French, Spanish, Italian or Dutch."""
    personal_data: Share = 0.03
    """A tale with an e-mail address, telephone number, IP address or street address in it, all from ranges reserved for fiction."""
    leaked_question: Share = 0.02
    """A tale followed by a held-out tale with one of its questions and the answer."""

    def check(self) -> None:
        if sum(self._rates().values()) > 1:
            raise self.refuse("exact_duplicate", f"and the other rates sum to {sum(self._rates().values()):.2f}; at most 1 can be spoilt")

    def _rates(self) -> dict[Label, float]:
        return {
            "exact_duplicate": self.exact_duplicate,
            "near_duplicate": self.near_duplicate,
            "boilerplate": self.boilerplate,
            "mojibake": self.mojibake,
            "foreign": self.foreign,
            "personal_data": self.personal_data,
            "leaked_question": self.leaked_question,
        }

    def label(self, index: int) -> Label:
        """What document number `index` is. The first is always clean, so that every duplicate has an original."""
        if index == 0:
            return "clean"
        point = python_rng("dirt", self.seed, "label", index).random()
        for label, rate in self._rates().items():
            point -= rate
            if point < 0:
                return label
        return "clean"

    def original(self, index: int) -> int:
        """The clean document that number `index` is a copy of, if it is one: a random earlier one, or the nearest clean one before that."""
        start = python_rng("dirt", self.seed, "original", index).randrange(index)
        return next(earlier for earlier in range(start, -1, -1) if self.label(earlier) == "clean")

    def document(self, tales: Tales, index: int) -> Document:
        """Document number `index` of the corpus that these tales make when spoilt."""
        label = self.label(index)
        text, detail = _SPOIL[label](self, tales, index, Draws(python_rng("dirt", self.seed, "spoil", index)))
        return Document(self.id(tales, index), text, label, detail)

    def id(self, tales: Tales, index: int) -> str:
        """A document's name, which says nothing of its label."""
        return f"dirty/{self.seed}/{tales.name()}/{index}"

    def plant(self, tales: Tales, count: int, start: int = 0) -> Iterator[Document]:
        """Documents `start` to `start + count` of the corpus.

        Example:
            >>> [document.label for document in Dirt(seed=1).plant(Tales(), count=3)]
            ['clean', 'clean', 'clean']
        """
        return (self.document(tales, index) for index in range(start, start + count))


Spoilt = tuple[str, Detail]


def _clean(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    return tales.tale(index).text, Detail()


def _exact_duplicate(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    original = dirt.original(index)
    return tales.tale(original).text, Detail(of=dirt.id(tales, original))


def _near_duplicate(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    original = dirt.original(index)
    text = tales.tale(original).text
    low, high = NEAR_JACCARD
    while True:
        words = text.split(" ")
        for _ in range(1 + draws.below(5)):
            at = draws.below(len(words) - 1)
            words[at : at + 2] = draws.pick(([words[at + 1]], [words[at], *words[at : at + 2]], [words[at + 1], words[at]]))
        edited = " ".join(words)
        similarity = jaccard(text, edited)
        if low <= similarity <= high:
            return edited, Detail(of=dirt.id(tales, original), note=f"jaccard={similarity:.3f}")


def _boilerplate(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    header, footer, text = draws.pick(HEADERS), draws.pick(FOOTERS), tales.tale(index).text
    page = f"{header}\n\n{text}\n\n{footer}"
    spans = (Span("header", 0, len(header)), Span("footer", len(page) - len(footer), len(page)))
    return page, Detail(spans=spans)


def _mojibake(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    # Single curly quotes: the bytes of the double ones include 0x9D, which Windows-1252 leaves undefined.
    first, *rest = tales.tale(index).text.split('"')
    curly = first + "".join("‘’"[number % 2] + piece for number, piece in enumerate(rest))
    return curly.encode("utf-8").decode("cp1252"), Detail(note="utf-8 read as cp1252")


def _foreign(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    language, text = foreign(draws)
    return text, Detail(note=language)


def _personal_data(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    tale = tales.tale(index)
    name = next(fact.subject for fact in tale.facts if fact.relation == "works as")
    kind, lead, datum = draws.pick((
        ("email", f"Write to {name} at ", f"{name.lower().replace(' ', '.')}{draws.below(90) + 10}@example.org"),
        ("phone", f"Call {name} on ", f"+44 7700 900{draws.below(1000):03d}"),
        ("ip_address", f"{name} last signed in from ", f"192.0.2.{draws.below(256)}"),
        ("street_address", f"Send it to {name}, ", f"{draws.below(98) + 1} {draws.pick(STREETS)}"),
    ))  # fmt: skip
    sentences = tale.text.split(". ")
    cut = 1 + draws.below(len(sentences) - 1)
    before = ". ".join(sentences[:cut]) + ". " + lead
    return f"{before}{datum}. " + ". ".join(sentences[cut:]), Detail(spans=(Span(kind, len(before), len(before) + len(datum)),))


def _leaked_question(dirt: Dirt, tales: Tales, index: int, draws: Draws) -> Spoilt:
    leaked = tales.replace(split="held_out").tale(draws.below(1000))
    number = draws.below(len(leaked.questions))
    question = leaked.questions[number]
    before = tales.tale(index).text + "\n\n"
    text = f"{before}{leaked.text}\nQuestion: {question.text}\nAnswer: {question.answer}"
    return text, Detail(of=f"{leaked.id}#{number}", spans=(Span("leak", len(before), len(text)),))


_SPOIL: dict[Label, Callable[[Dirt, Tales, int, Draws], Spoilt]] = {
    "clean": _clean,
    "exact_duplicate": _exact_duplicate,
    "near_duplicate": _near_duplicate,
    "boilerplate": _boilerplate,
    "mojibake": _mojibake,
    "foreign": _foreign,
    "personal_data": _personal_data,
    "leaked_question": _leaked_question,
}


def shingles(text: str, n: int = 3) -> set[tuple[str, ...]]:
    """The word n-grams of a text."""
    words = text.split()
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def jaccard(a: str, b: str) -> float:
    """The shared part of two texts' word trigrams: intersection over union, from 0 to 1."""
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)
