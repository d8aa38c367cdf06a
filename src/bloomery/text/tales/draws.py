"""Random choices that keep count of their own entropy."""

from collections.abc import Sequence
from math import log2
from random import Random
from typing import TypeVar

T = TypeVar("T")

_BITS = tuple(log2(n) if n else 0.0 for n in range(1025))


class Draws:
    """Choices from one random stream; `bits` is the sum of −log2(probability) over all that were made.

    Averaged over many tales, `bits` is the entropy of the sequence of choices (the chain rule). Every draw is one call of
    `Random.random`, whose values are the same on every machine.
    """

    __slots__ = ("_random", "bits")

    def __init__(self, rng: Random) -> None:
        self._random = rng.random
        self.bits = 0.0

    def below(self, n: int) -> int:
        """A number from 0 to n − 1, each as likely."""
        self.bits += _BITS[n]
        return int(self._random() * n)

    def pick(self, options: Sequence[T]) -> T:
        """One of up to 1,024 options, each as likely."""
        n = len(options)
        self.bits += _BITS[n]
        return options[int(self._random() * n)]

    def take(self, options: list[T]) -> T:
        """As `pick`, and removes what it picked, so that the next pick differs."""
        return options.pop(self.below(len(options)))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        happened = self._random() < probability
        self.bits -= log2(probability if happened else 1.0 - probability)
        return happened

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """One of the options, as likely as its weight says."""
        total = sum(weights)
        rest = self._random() * total
        chosen = 0
        while chosen < len(options) - 1 and rest >= weights[chosen]:
            rest -= weights[chosen]
            chosen += 1
        self.bits -= log2(weights[chosen] / total)
        return options[chosen]
