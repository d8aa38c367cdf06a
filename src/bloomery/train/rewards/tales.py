"""`TrueTale`: the true reward of what is written about a tale, from the world that the tale tells of."""

from __future__ import annotations

from functools import lru_cache

from bloomery.core.errors import DataError
from bloomery.text.tales import Tales
from bloomery.train.rewards.reward import Answer, Verifiable


class TrueTale(Verifiable):
    """1 where the answer goes on with a tale by one sentence that its world makes true, else 0: what contradicts the world, what the world
    does not determine and what is no statement earn nothing.

    The world is known by the document's id, since a tale is a function of that.
    """

    def judge(self, answer: Answer) -> float:
        return float(answer.text.strip() in _truths(answer.document))


@lru_cache(maxsize=4096)
def _truths(document: str) -> frozenset[str]:
    """The sentences that are true of the tale with an id."""
    found = Tales.of_id(document)
    if found is None:
        raise DataError(f"TrueTale: document {document!r} is no tale, so that its world is not known; give prompts from TaleContinuations")
    tales, index = found
    return tales.truths(index)
