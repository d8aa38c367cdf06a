"""How far those who judge agree, and how often they are right where it is known what is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from bloomery.stages.labels.items import Item
from bloomery.stages.labels.judgements import Judgement


@dataclass(frozen=True)
class Agreement:
    """Figures of a set of judgements.

    Attributes:
        judged: by labeler, how many items they have ranked.
        between: by pair of labelers, Cohen's κ, the share of pairs of answers on which they say the same, and the number of such pairs.
        kappa: κ over all pairs of labelers, weighted by how much both have judged; None where no two have judged the same.
        gold: by labeler, how many pairs of answers of gold items they ordered as is known, and how many there were.
    """

    judged: Mapping[str, int]
    between: Mapping[tuple[str, str], tuple[float, float, int]]
    kappa: float | None
    gold: Mapping[str, tuple[int, int]]


def agreement(items: Sequence[Item], standing: Sequence[Judgement]) -> Agreement:
    """The figures of what stands.

    A labeler says of each pair of answers of an item that the one is better, the other is, or that it is a tie. Of two labelers,

        κ = (p − p₀) / (1 − p₀)

    where p is the share of pairs of which they say the same, and p₀ what it would be if each said what he says as often as he does, by chance.

    Source: Cohen (1960), "A coefficient of agreement for nominal scales".
    """
    said: dict[str, dict[tuple[str, int, int], int]] = {}
    for one in standing:
        if one.ranks is not None:
            own = said.setdefault(one.labeler, {})
            own.update({(one.item, *pair): order for pair, order in orders(one.ranks).items()})
    between = {}
    for one, other in combinations(sorted(said), 2):
        both = sorted(said[one].keys() & said[other].keys())
        if both:
            between[one, other] = (*cohen([said[one][key] for key in both], [said[other][key] for key in both]), len(both))
    weight = sum(n for _, _, n in between.values())
    known = {(item.id, *pair): order for item in items if item.gold for pair, order in orders(item.gold).items() if order}
    gold = {
        labeler: (sum(own[key] == known[key] for key in own.keys() & known.keys()), len(own.keys() & known.keys()))
        for labeler, own in said.items()
    }  # fmt: skip
    return Agreement(
        dict(sorted(Counter(one.labeler for one in standing if one.ranks is not None).items())), between,
        sum(kappa * n for kappa, _, n in between.values()) / weight if weight else None, {who: told for who, told in gold.items() if told[1]},
    )  # fmt: skip


def orders(ranks: Sequence[int]) -> dict[tuple[int, int], int]:
    """Of each pair of answers whether the first is better (−1), the second (1), or neither (0)."""
    return {(i, j): (ranks[i] > ranks[j]) - (ranks[i] < ranks[j]) for i, j in combinations(range(len(ranks)), 2)}


def cohen(one: Sequence[int], other: Sequence[int]) -> tuple[float, float]:
    """κ of two that say something of the same things, and the share of which they say the same; κ is 1 where both say one thing of all."""
    n = len(one)
    same = sum(a == b for a, b in zip(one, other, strict=True)) / n
    counts = Counter(one), Counter(other)
    chance = sum(counts[0][value] * counts[1][value] for value in counts[0]) / n**2
    return ((same - chance) / (1 - chance) if chance < 1 else float(same == 1)), same
