"""`Vary`: prompts as people type them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from bloomery.core.rng import python_rng
from bloomery.text.filters.filter import Filter, Verdicts
from bloomery.text.filters.prompts import Change, rewritten
from bloomery.text.instructions.variations import Case, DroppedPunctuation, Rate, Synonyms, Typos, Variation


class Vary(Filter):
    """Changes what the user says in some of the conversations, as people differ in how they type; what the assistant says stays.

    Rewrites, and says in `meta` how: {"varied": ["Typos"]}. Numbers, code and anything else that an answer hangs on may be touched by
    `Case` and `Typos`: take them for questions whose answers do not.

    Source: Wei & Zou (2019), arXiv 1901.11196 (small changes of texts as augmentation); departures: typing noise beside synonyms, a table of
    our own in place of WordNet.
    """

    changes: tuple[Variation, ...] = (Typos(), Case(), Synonyms(), DroppedPunctuation())
    """What to choose from; a conversation that is changed gets one of them."""
    share: Rate = 0.3
    """Of the conversations that are changed."""
    seed: int = 0
    """Other seeds choose otherwise."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, "the user's words varied", self._vary)

    def _vary(self, id: str, text: str, messages: list[dict[str, str]] | None, meta: dict[str, Any]) -> Change | None:
        rng = python_rng("vary", self.seed, id)
        if messages is None or "varied" in meta or not self.changes or rng.random() >= self.share:
            return None
        change = rng.choice(self.changes)
        talk = [m | {"content": change(m["content"], rng) or m["content"]} if m["role"] == "user" else m for m in messages]
        if talk == messages:
            return None
        return "\n\n".join(m["content"] for m in talk), talk, meta | {"varied": [change.kind()]}
