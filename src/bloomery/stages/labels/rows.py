"""The rows that come of judgements, in the form in which preferences are read (`Files`): for reward models and for DPO."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from bloomery.stages.labels.items import Item
from bloomery.stages.labels.judgements import Judgement


def rows_of(items: Sequence[Item], standing: Sequence[Judgement], least: int = 1) -> list[dict[str, Any]]:
    """A row for each item that has been ranked, with what those who ranked it find on average.

    Args:
        items: all of them.
        standing: what stands of their judgements.
        least: labelers who must have ranked an item.

    Returns:
        {"prompt", "completions", "ranks", "labelers", "agreed"}: equal means are a tie, and where all are equal there is no row; "agreed" says
        whether all ranked alike. "rates" has the mean of each answer, of those who rated it, if anybody did. An item that somebody flagged is
        left out.
    """
    flagged = {one.item for one in standing if one.kind == "flag"}
    rows = []
    for item in items:
        said = [one.ranks for one in standing if one.item == item.id and one.ranks is not None]
        if len(said) < least or item.id in flagged or not said:
            continue
        rated = [one.rates for one in standing if one.item == item.id and one.rates is not None]
        sums = [sum(ranks[place] for ranks in said) for place in range(len(item.answers))]
        ranks = [1 + sum(other < own for other in sums) for own in sums]
        if len(set(ranks)) == 1:
            continue
        alone = len(item.prompt) == 1 and item.prompt[0]["role"] == "user"
        rows.append({
            "prompt": item.prompt[0]["content"] if alone else list(item.prompt), "completions": list(item.answers), "ranks": ranks,
            "labelers": len(said), "agreed": len(set(said)) == 1,
        } | ({"rates": [round(fmean(of_answer), 4) for of_answer in zip(*rated, strict=True)]} if rated else {}))  # fmt: skip
    return rows
