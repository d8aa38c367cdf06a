"""What is told of texts by their vectors: how alike two are, and which of all texts of some rows goes with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bloomery.evals.metrics import retrieved
from bloomery.stages.reading import Read, Told
from bloomery.text.tokenizer import Tokenizer


def alike(rows: Sequence[Read], begin: int) -> list[Told]:
    """The product of the two vectors of each row, as a score.

    Args:
        rows: of two documents each.
        begin: the token that begins a document.
    """
    pairs = [(row, vectors(row, begin)) for row in rows]
    return [Told(row.id, place, label, np.array([one @ other])) for row, (one, other) in pairs for place, label in row.labels.items()]


def matched(rows: Sequence[Read], tokenizer: Tokenizer) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Where the right text of each row stands among all different ones that go with any row, or are given as negatives; figures, and a line for
    each row.

    Args:
        rows: of a text, the one that goes with it, and negatives.
        tokenizer: of the rows.
    """
    texts: dict[bytes, int] = {}
    asked, of_texts, right, own = [], list[np.ndarray](), [], []
    for row in rows:
        first, *found = vectors(row, tokenizer.begin)
        asked.append(first)
        numbers = []
        for tokens, vector in zip(documents(row, tokenizer.begin)[1:], found, strict=True):
            numbers.append(texts.setdefault(tokens.tobytes(), len(texts)))
            if numbers[-1] == len(of_texts):
                of_texts.append(vector)
        right.append(numbers[0])
        own.append(all(first @ of_texts[number] < first @ of_texts[numbers[0]] for number in set(numbers[1:]) - {numbers[0]}))
    ranked, nearest = retrieved(np.stack(asked), np.stack(of_texts), np.array(right))
    results = {"accuracy": float((ranked == 1).mean()), "mrr": float((1 / ranked).mean()), "labels": len(rows), "candidates": len(texts)}
    if any(count > 1 for row in rows for count in row.labels.values()):
        results["accuracy_among_own"] = float(np.mean(own))
    spelled = [tokenizer.decode(np.frombuffer(key, rows[0].tokens.dtype).tolist()) for key in texts]
    lines = [
        {"id": row.id, "rank": rank, "expected": spelled[wanted], "nearest": spelled[near]}
        for row, rank, wanted, near in zip(rows, ranked.tolist(), right, nearest.tolist(), strict=True)
    ]
    return results, lines


def vectors(row: Read, begin: int) -> Float[np.ndarray, "documents d_model"]:
    """Of each document of a row; `begin` begins one."""
    return np.stack([scores for place, scores in row.scores.items() if row.tokens[place] == begin])


def documents(row: Read, begin: int) -> list[np.ndarray]:
    """The tokens of each document of a row; `begin` begins one."""
    return np.split(row.tokens, np.flatnonzero(row.tokens == begin)[1:])
