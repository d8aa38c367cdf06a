"""Ways to change a prompt, as people differ in how they type: pure functions of a text and a stream of random numbers."""

from __future__ import annotations

import random
import re
from typing import Annotated, Literal

from annotated_types import Ge, Le

from bloomery.core.config import Config
from bloomery.text.instructions.wordlists import NEIGHBOURS, SYNONYMS

Rate = Annotated[float, Ge(0), Le(1)]

_WORD = re.compile(r"[A-Za-z]+")
_SENTENCE = re.compile(r"[^.!?\n]*[.!?]+[ \t]*|[^.!?\n]+\n*|\n+")


class Variation(Config):
    """One way to change a prompt."""

    def __call__(self, text: str, rng: random.Random) -> str:
        """The text, changed."""
        raise NotImplementedError


class Typos(Variation):
    """Letters that are swapped, doubled, left out, or the key beside; never the first of a word, and none in numbers."""

    rate: Rate = 0.03
    """Of the letters."""

    def __call__(self, text: str, rng: random.Random) -> str:
        letters = list(text)
        for i in range(1, len(letters)):
            if letters[i].isalpha() and letters[i - 1].isalpha() and rng.random() < self.rate:
                kind = rng.randrange(4)
                if kind == 0:
                    letters[i - 1 : i + 1] = ["", letters[i] + letters[i - 1]] if i > 1 and letters[i - 2].isalpha() else letters[i - 1 : i + 1]
                elif kind == 1:
                    letters[i] *= 2
                elif kind == 2:
                    letters[i] = ""
                else:
                    letters[i] = rng.choice(NEIGHBOURS.get(letters[i].lower(), letters[i]))
        return "".join(letters)


class Case(Variation):
    """All in small letters, all in capitals, or no capital at the beginning."""

    to: Literal["lower", "upper", "uncapitalised"] = "lower"
    """Which of them."""

    def __call__(self, text: str, rng: random.Random) -> str:
        return text.lower() if self.to == "lower" else text.upper() if self.to == "upper" else text[:1].lower() + text[1:]


class Synonyms(Variation):
    """Words of requests by others that mean about the same, from a small English table."""

    rate: Rate = 0.5
    """Of the words that are in the table."""

    def __call__(self, text: str, rng: random.Random) -> str:
        def other(match: re.Match[str]) -> str:
            word = match[0]
            if word.lower() not in SYNONYMS or rng.random() >= self.rate:
                return word
            chosen = rng.choice(SYNONYMS[word.lower()])
            return chosen.capitalize() if word[0].isupper() else chosen

        return _WORD.sub(other, text)


class DroppedPunctuation(Variation):
    """Without full stops, commas, question marks and the like before a blank or the end; what stands in numbers and code stays."""

    def __call__(self, text: str, rng: random.Random) -> str:
        return re.sub(r"[.,;:!?]+(?=\s|$)", "", text)


class ReorderedSentences(Variation):
    """Sentences of the first paragraph in another order; a prompt of one sentence stays as it is."""

    def __call__(self, text: str, rng: random.Random) -> str:
        first, gap, rest = text.partition("\n")
        sentences = [sentence.strip() for sentence in _SENTENCE.findall(first) if sentence.strip()]
        rng.shuffle(sentences)
        return " ".join(sentences) + gap + rest if len(sentences) > 1 else text
