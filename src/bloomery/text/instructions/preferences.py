"""Preferences: one prompt and several completions, within one document.

The document's `messages` are the prompt's, then those of each completion, best first; `meta` says where the prompt ends and what each
completion is worth:

    messages   user, assistant, user │ assistant │ assistant
    meta       {"preference": {"prompt": 3, "completions": [{"messages": 1, "rank": 1, "rating": 9.0}, {"messages": 1, "rank": 2}]}}

So every filter sees, judges and rewrites all of it, and a pair is never torn apart. See docs/decisions/0004-preference-rows.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from bloomery.core.errors import DataError


class Completion(NamedTuple):
    """One answer to the prompt.

    Attributes:
        messages: the assistant's, or a whole exchange where the answers went on.
        rank: 1 is best; equal ranks are ties; None where nobody compared.
        rating: a number, higher is better; None where nobody gave one.
        good: whether it is right or wanted, where that alone was said (KTO, verified solutions); None elsewhere.
        model: who wrote it, where that is known.
    """

    messages: Sequence[dict[str, str]]
    rank: int | None = None
    rating: float | None = None
    good: bool | None = None
    model: str | None = None


class Preference(NamedTuple):
    """A prompt and its completions, best first."""

    prompt: Sequence[dict[str, str]]
    completions: Sequence[Completion]

    def ranked(self) -> Preference:
        """The completions best first, with ranks wherever ratings or verdicts give them."""
        done = self.completions
        if len(done) > 1 and all(c.rank is None for c in done):
            told = [c.rating if c.rating is not None else c.good for c in done]
            worth = [float(value) for value in told if value is not None]
            if len(worth) == len(done):
                done = [c._replace(rank=1 + sum(other > w for other in worth)) for c, w in zip(done, worth, strict=True)]
        if any(c.rank is not None for c in done):
            done = sorted(done, key=lambda c: c.rank if c.rank is not None else len(done) + 1)
        return Preference(self.prompt, done)

    def messages(self) -> list[dict[str, str]]:
        """The prompt's messages, then those of all completions."""
        return [*self.prompt, *(message for completion in self.completions for message in completion.messages)]

    def to_meta(self) -> dict[str, Any]:
        """What `meta` holds under "preference"."""
        known = [completion._asdict() | {"messages": len(completion.messages)} for completion in self.completions]
        return {"prompt": len(self.prompt), "completions": [{k: v for k, v in plain.items() if v is not None} for plain in known]}


def preference_of(messages: Sequence[dict[str, str]] | None, meta: str | None) -> Preference | None:
    """The prompt and completions of a document, or None where it holds no preference.

    Args:
        messages, meta: the document's columns.

    Raises:
        DataError: the two columns disagree.
    """
    if messages is None or meta is None or '"preference"' not in meta:
        return None
    plain = json.loads(meta).get("preference")
    if not isinstance(plain, dict) or "completions" not in plain:
        return None
    at, completions = plain["prompt"], []
    for known in plain["completions"]:
        completions.append(Completion(messages[at : at + known["messages"]], *(known.get(name) for name in Completion._fields[1:])))
        at += known["messages"]
    if at != len(messages):
        raise DataError(f"meta.preference counts {at} messages where there are {len(messages)}; keep both columns as the reader left them")
    return Preference(messages[: plain["prompt"]], completions)
