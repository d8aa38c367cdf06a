"""`Fold`: a part of the rows of labelled data, by what is in them, so that the same text is never on both sides."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.rng import derive_seed


class Fold(Config):
    """One of several parts of some rows, or all but that one. Each row is in exactly one of them.

        number of a row = hash(seed, its content) mod of

    The content is what is read, without case and with one blank for any; labels and ids do not count. Copies of a row are in one fold
    whatever else there is, in whatever order; near copies need not be, so that they are to be dropped before.

    Example:
        >>> train, test = Fold(number=0, of=5, side="others"), Fold(number=0, of=5)
    """

    number: int = Field(ge=0)
    """Which one, from 0."""
    of: int = Field(ge=2)
    """How many there are."""
    side: Literal["this", "others"] = "this"
    """The rows of this fold, or those of all others."""
    seed: int = 0
    """Folds of other seeds part rows independently: to part what is left once more."""

    def check(self) -> None:
        if self.number >= self.of:
            raise self.refuse("number", f"is none of the {self.of} folds, which are counted from 0; {self.of - 1} is the last")

    def keeps(self, content: str) -> bool:
        """Whether a row of this content is on its side."""
        return (fold_of(content, self.of, self.seed) == self.number) == (self.side == "this")


def fold_of(content: str, of: int, seed: int = 0) -> int:
    """The number of the fold that a row is in.

    Args:
        content: what is read in it.
        of: number of folds, ≥ 2.
        seed: see `Fold`.
    """
    return derive_seed("fold", seed, " ".join(content.casefold().split())) % of
