"""`Templates`: several wordings of one task, of which each document gets one, always the same."""

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
        fitting = [wording for wording in self.wordings if set(_SLOT.findall(wording)) <= known]
        if not fitting:
            return None
        wording = fitting[derive_seed("template", self.seed, id) % len(fitting)]
        return _SLOT.sub(lambda slot: values[slot[1]], wording)
