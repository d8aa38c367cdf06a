"""Items: a prompt and two to four answers that people are to compare."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import DataError

FEWEST, MOST = 2, 4


@dataclass(frozen=True)
class Item:
    """A prompt and its answers.

    Attributes:
        prompt: messages.
        answers: texts.
        gold: what is known of them, a rank for each answer (1 is best), for checks of who judges; None where nothing is.
    """

    prompt: tuple[dict[str, str], ...]
    answers: tuple[str, ...]
    gold: tuple[int, ...] | None = None

    @property
    def id(self) -> str:
        """The same for the same prompt and answers."""
        said = json.dumps([list(self.prompt), list(self.answers)], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def order_for(self, labeler: str) -> list[int]:
        """In which order somebody sees the answers: the same each time, and another one for everybody."""
        order = list(range(len(self.answers)))
        random.Random(f"{self.id} {labeler}").shuffle(order)
        return order


def items_of(lines: Iterable[str]) -> list[Item]:
    """Items from JSON lines: {"prompt" or "messages", "answers": […], "gold": […]}, or those of `bloomery generate --samples`, of which the
    texts of one prompt belong together.

    Raises:
        DataError: a line is neither; says which, and why.
    """
    found: list[Item] = []
    sampled: dict[str, tuple[list[dict[str, str]], list[str]]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} is no JSON ({error}); give one object a line") from None
        prompt = _prompt(row, number)
        if "answers" in row:
            found.append(_item(prompt, row["answers"], row.get("gold"), number))
        elif isinstance(row.get("text"), str):
            sampled.setdefault(json.dumps(prompt), (prompt, []))[1].append(row["text"])
        else:
            raise DataError(f'line {number} has neither "answers" nor "text"; give the answers to its prompt')
    for prompt, texts in sampled.values():
        answers = list(dict.fromkeys(text for text in texts if text))  # nobody can tell the same text from itself
        found += [_item(prompt, answers[at : at + MOST], None, 0) for at in range(0, len(answers), MOST) if len(answers[at : at + MOST]) > 1]
    if not found:
        raise DataError("there is nothing to compare: no prompt has two answers that differ; write more of them (--samples 4)")
    return list({item.id: item for item in found}.values())


def _prompt(row: Any, number: int) -> list[dict[str, str]]:
    told = row.get("messages", row.get("prompt")) if isinstance(row, dict) else None
    messages = [{"role": "user", "content": told}] if isinstance(told, str) else told
    if not isinstance(messages, list) or not messages or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    ):  # fmt: skip
        raise DataError(f'line {number} has no "prompt", a text, and no "messages"; give one of them')
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _item(prompt: Sequence[dict[str, str]], answers: Any, gold: Any, number: int) -> Item:
    if not isinstance(answers, list) or not FEWEST <= len(answers) <= MOST or not all(isinstance(one, str) and one for one in answers):
        raise DataError(f"line {number} has no {FEWEST} to {MOST} answers, texts with something in them; give so many")
    if gold is not None and (not isinstance(gold, list) or len(gold) != len(answers) or not all(type(rank) is int for rank in gold)):
        raise DataError(f"line {number}: gold={gold!r} is no rank for each of its {len(answers)} answers; give 1 to the best")
    return Item(tuple(prompt), tuple(answers), None if gold is None else tuple(gold))
