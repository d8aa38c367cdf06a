"""Rewards that a rule gives: the known answer, a form, a quantity with its unit, a length."""

from __future__ import annotations

import math
import re
from typing import Annotated

from annotated_types import Gt

from bloomery.core.units import Tokens
from bloomery.train.rewards.reward import Answer, Verifiable


class KnownAnswer(Verifiable):
    """1 where the answer is the document's own, apart from white space around it, else 0."""

    def judge(self, answer: Answer) -> float:
        return float(answer.text.strip() == answer.expected.strip())


class Format(Verifiable):
    """1 where the answer as a whole is of a form, else 0."""

    pattern: str
    """A regular expression that the whole answer has to match; a dot stands for a line's end, too."""

    def check(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise self.refuse("pattern", f"is no regular expression ({error}); escape what is meant literally") from None

    def judge(self, answer: Answer) -> float:
        return float(re.fullmatch(self.pattern, answer.text, re.DOTALL) is not None)


class Longer(Verifiable):
    """min(1, tokens written / tokens): longer is better. It is wrong on purpose, to see a policy please a reward and serve nobody."""

    tokens: Tokens
    """At which it is 1."""

    def judge(self, answer: Answer) -> float:
        return min(1.0, answer.tokens / self.tokens)


class Overlong(Verifiable):
    """0 for answers of up to `free` tokens, from there on down to −1 at `most`, and −1 beyond.

        −clip((tokens − free) / (most − free), 0, 1)

    Source: Yu et al. (2025), DAPO, arXiv 2503.14476, section 3.4.
    """

    free: Tokens
    """Tokens that cost nothing."""
    most: Tokens
    """From which an answer costs 1."""

    def check(self) -> None:
        if self.most <= self.free:
            raise self.refuse("most", f"is not above free={self.free}; {self.free + 1} would be")

    def judge(self, answer: Answer) -> float:
        return -min(1.0, max(0.0, (answer.tokens - self.free) / (self.most - self.free)))


UNITS = {
    "mm": ("m", 1e-3), "cm": ("m", 1e-2), "m": ("m", 1.0), "km": ("m", 1e3),
    "mg": ("g", 1e-3), "g": ("g", 1.0), "kg": ("g", 1e3), "t": ("g", 1e6),
    "ms": ("s", 1e-3), "s": ("s", 1.0), "min": ("s", 60.0), "h": ("s", 3600.0),
    "ml": ("l", 1e-3), "cl": ("l", 1e-2), "l": ("l", 1.0), "%": ("", 1e-2), "": ("", 1.0),
}  # fmt: skip
"""Unit → what it is a multiple of, and of how much."""
_QUANTITY = re.compile(r"([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)\s*([a-z%]*)", re.IGNORECASE)


class Quantity(Verifiable):
    """1 where the last quantity in the answer is that of the document's own, whatever the unit it is told in, else 0: 3.5 km is 3,500 m, and
    3.5 m is wrong, and so is 3.5.
    """

    tolerance: Annotated[float, Gt(0)] = 1e-6
    """By how much of the expected quantity it may be off."""

    def judge(self, answer: Answer) -> float:
        ours, expected = quantity(answer.text), quantity(answer.expected)
        if ours is None or expected is None or ours[1] != expected[1]:
            return 0.0
        return float(math.isclose(ours[0], expected[0], rel_tol=self.tolerance, abs_tol=1e-12))


def quantity(text: str) -> tuple[float, str] | None:
    """The last quantity in a text, in the unit that its own is a multiple of; None where there is none. Words that are no unit are none."""
    found = None
    for number, unit in _QUANTITY.findall(text):
        base, factor = UNITS.get(unit, UNITS.get(unit.lower(), ("", 1.0)))
        found = float(number.replace(",", "")) * factor, base
    return found
