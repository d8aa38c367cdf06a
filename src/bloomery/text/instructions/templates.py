"""Wordings with slots; and `Templates`: several of them for one task, of which each document gets one, always the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.rng import derive_seed

_SLOT = re.compile(r"\{(\w+)\}")


class Templates(Config):
    """Wordings with slots, like "Write a text about {keywords}."; which one a document gets follows from its id and the seed alone.

    Example:
        >>> Templates(wordings=("Write about {title}.", "Tell me about {title}.")).fill("d1", {"title": "bees"})
        'Tell me about bees.'
    """

    wordings: tuple[str, ...] = Field(min_length=1)
    """What to choose from."""
    seed: int = 0
    """Other seeds choose otherwise."""

    def fill(self, id: str, values: Mapping[str, str]) -> str | None:
        """One of the wordings of which every slot has a value, filled in; None where there is none.

        Args:
            id: of the document.
            values: by slot; empty ones count as missing. Braces in them stay as they are.
        """
        known = {name for name, value in values.items() if value}
        fitting = [wording for wording in self.wordings if slots(wording) <= known]
        if not fitting:
            return None
        return filled(fitting[derive_seed("template", self.seed, id) % len(fitting)], values)


def slots(wording: str) -> set[str]:
    """The names of a wording's slots."""
    return set(_SLOT.findall(wording))


def filled(wording: str, values: Mapping[str, str]) -> str:
    """A wording with a value in each of its slots; braces in the values stay as they are, and so do those in it that enclose no name."""
    return _SLOT.sub(lambda slot: values[slot[1]], wording)
