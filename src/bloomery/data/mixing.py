"""How much of which corpus: values that turn the sizes of corpora and the length of a run into the proportions of a `Mixture`.

    Given()             the shares' own proportions
    Proportions(of=…)   by name, for a phase of a curriculum
    Temperature()       p ∝ tokens^(1/T)
    UniMax()            as even as possible, no corpus more than so often
    Ratio()             groups against each other, such as domain : general
    Curriculum()        one after the other
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

from annotated_types import Ge, Gt, Le
from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.data.mixture import LONGEST_PERIOD, whole_parts

GRAIN = 10_000  # proportions that are computed are rounded to parts of it


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What mixing goes by.

    Attributes:
        name: of the corpus.
        tokens: in one epoch.
        proportion: as its share says.
        group: as its share says.
        most_rows: that may come from it; None is any number.
    """

    name: str
    tokens: int
    proportion: float = 1.0
    group: str = ""
    most_rows: int | None = None


class Mixed(NamedTuple):
    """From which row on which proportions hold, as whole parts or as they were given."""

    first_row: int
    proportions: dict[str, float | int]


class Mixing(Config):
    """How much of which corpus."""

    def weights(self, corpora: Sequence[Corpus]) -> list[float]:
        """The weight of each corpus; any sum."""
        raise NotImplementedError

    def most_epochs(self) -> float | None:
        """How often any corpus may be passed over, where the mixing itself says so."""
        return None

    def phases(self, corpora: Sequence[Corpus], rows: int) -> list[Mixed]:
        """The proportions over a run of so many rows. No corpus gives more than its `most_rows`; what it cannot give, the others do.

        Raises:
            ConfigError: all of them together cannot give so many rows, or a name or group is unknown.
        """
        return [Mixed(0, apportioned(self.weights(corpora), corpora, rows))]


class Given(Mixing):
    """The proportions of the shares."""

    def weights(self, corpora: Sequence[Corpus]) -> list[float]:
        return [corpus.proportion for corpus in corpora]


class Proportions(Mixing):
    """Proportions by name; corpora that are not named give nothing. For the phases of a curriculum."""

    of: dict[str, Annotated[float, Ge(0)]] = Field(min_length=1)
    """The corpora's names, and the weight of each."""

    def check(self) -> None:
        if not any(self.of.values()):
            raise self.refuse("of", "gives nothing; give one corpus more than 0")

    def weights(self, corpora: Sequence[Corpus]) -> list[float]:
        known = [corpus.name for corpus in corpora]
        if unknown := [name for name in self.of if name not in known]:
            raise ConfigError(f"Proportions.of names {unknown[0]!r}, which is no source; they are {', '.join(known)}")
        return [self.of.get(corpus.name, 0.0) for corpus in corpora]


class Temperature(Mixing):
    """wᵢ ∝ (share's proportion) · tokensᵢ^(1/T): by size at T = 1, evenly as T grows.

    Source: Conneau & Lample (2019), arXiv 1901.07291, section 3.1; departure: the exponent is written 1/T, as in T5 (arXiv 1910.10683, 3.5.2).
    """

    temperature: Annotated[float, Ge(1)] = 2.0
    """T."""

    def weights(self, corpora: Sequence[Corpus]) -> list[float]:
        return [corpus.proportion * corpus.tokens ** (1 / self.temperature) for corpus in corpora]


class UniMax(Mixing):
    """As even as possible: every corpus gives as much as any other, unless it would be passed over more than `max_epochs` times.

    Source: Chung et al. (2023), arXiv 2304.09151, algorithm 1; departures: tokens instead of characters, a share's own `max_epochs` binds
    too, and more tokens than all corpora may give are an error.
    """

    max_epochs: Annotated[float, Gt(0)] = 4.0
    """How often a corpus may be passed over."""

    def weights(self, corpora: Sequence[Corpus]) -> list[float]:
        return [1.0] * len(corpora)

    def most_epochs(self) -> float:
        return self.max_epochs


class Ratio(Mixing):
    """Groups of corpora against each other, such as domain : general = 1 : 5; within a group another mixing holds.

    Example:
        >>> Train(sources=(Share(tokens=law, group="domain"), Share(tokens=web, group="general")),
        ...       mixing=Ratio(of={"domain": 1, "general": 5}), …)
    """

    of: dict[str, Annotated[float, Gt(0)]] = Field(min_length=1)
    """The groups and their parts."""
    within: Mixing = Given()
    """How the corpora of a group share its part."""

    def weights(self, corpora: Sequence[Corpus]) -> list[float]:
        groups = {corpus.group for corpus in corpora}
        if groups != set(self.of):
            raise ConfigError(f"Ratio.of={self.of} does not name the groups {sorted(groups)} of the sources; give each Share(group=…) its part")
        inner = self.within.weights(corpora)
        sums = {group: sum(w for c, w in zip(corpora, inner, strict=True) if c.group == group) for group in groups}
        if empty := [group for group, total in sums.items() if not total]:
            raise ConfigError(f"Ratio.within gives the group {empty[0]!r} nothing; give one of its corpora more than 0")
        return [self.of[c.group] * w / sums[c.group] for c, w in zip(corpora, inner, strict=True)]

    def most_epochs(self) -> float | None:
        return self.within.most_epochs()


class Stretch(Config):
    """A part of a run with proportions of its own."""

    share: Annotated[float, Gt(0), Le(1)]
    """Of the run's tokens."""
    mixing: Mixing
    """The proportions meanwhile."""


class Curriculum(Mixing):
    """Stretches one after the other, each with its own proportions. How often a corpus may be passed over counts over all of them.

    Example:
        >>> Curriculum(stretches=(Stretch(share=0.8, mixing=Temperature()), Stretch(share=0.2, mixing=Proportions(of={"books": 1, "chat": 2}))))
    """

    stretches: tuple[Stretch, ...] = Field(min_length=1)
    """In order; their shares sum to 1."""

    def check(self) -> None:
        if not math.isclose(total := sum(stretch.share for stretch in self.stretches), 1.0, abs_tol=1e-6):
            raise ConfigError(f"Curriculum.stretches have shares that sum to {total:g}; let them sum to 1")
        if any(isinstance(stretch.mixing, Curriculum) for stretch in self.stretches):
            raise ConfigError("Curriculum.stretches hold another Curriculum; write its stretches out")

    def most_epochs(self) -> float | None:
        return min((most for stretch in self.stretches if (most := stretch.mixing.most_epochs()) is not None), default=None)

    def weights(self, corpora: Sequence[Corpus]) -> list[float]:
        each = [stretch.mixing.weights(corpora) for stretch in self.stretches]
        return [sum(s.share * w[i] / sum(w) for s, w in zip(self.stretches, each, strict=True)) for i in range(len(corpora))]

    def phases(self, corpora: Sequence[Corpus], rows: int) -> list[Mixed]:
        mixed: list[Mixed] = []
        left, first, passed = list(corpora), 0, 0.0
        for stretch in self.stretches:
            passed += stretch.share
            last = round(min(passed, 1.0) * rows)
            if last > first:
                proportions = apportioned(stretch.mixing.weights(left), left, last - first)
                mixed.append(Mixed(first, proportions))
                left = [_after(c, most_given(proportions, c.name, last - first)) for c in left]
                first = last
        return mixed


def apportioned(weights: Sequence[float | int], corpora: Sequence[Corpus], rows: int) -> dict[str, float | int]:
    """The proportions that come nearest to the weights without any corpus giving more than its `most_rows` among `rows` rows.

    Raises:
        ConfigError: the corpora cannot give so many rows, or a weight is too small beside the others.
    """
    names, limits = [corpus.name for corpus in corpora], [math.inf if corpus.most_rows is None else corpus.most_rows for corpus in corpora]
    plain = dict(zip(names, _simple(weights, names), strict=True))
    if all(most_given(plain, name, rows) <= limit for name, limit in zip(names, limits, strict=True)):
        return {name: part for name, part in plain.items() if part}
    period, parts = min(rows, LONGEST_PERIOD), None
    if (most := sum(limit for weight, limit in zip(weights, limits, strict=True) if weight)) >= rows:
        scaled = [share * period / rows for share in filled(weights, limits, rows)]
        parts = rounded(scaled, [math.inf if limit == math.inf else limit * period // rows for limit in limits], period)
    if parts is None:
        raise ConfigError(f"Train.sources give at most {most:.0f} rows within their max_epochs, and {rows} are wanted; raise max_epochs, "
                          "or train on fewer tokens")  # fmt: skip
    return {name: part for name, part in zip(names, parts, strict=True) if part}


def filled(weights: Sequence[float | int], limits: Sequence[float | int], rows: float | int) -> list[float]:
    """`rows` shared out by weight, no share above its limit: what one cannot take, the others do."""
    shares, open_ = [0.0] * len(weights), [i for i, weight in enumerate(weights) if weight]
    while open_:
        left, total = rows - sum(shares), sum(weights[i] for i in open_)
        full = [i for i in open_ if limits[i] <= left * weights[i] / total]
        for i in full or open_:
            shares[i] = float(limits[i]) if full else left * weights[i] / total
        open_ = [i for i in open_ if full and i not in full]
    return shares


def rounded(shares: Sequence[float], limits: Sequence[float | int], total: int) -> list[int] | None:
    """Whole numbers of the given sum, nearest to the shares and none above its limit; None where there are none."""
    parts = [int(min(math.floor(share), limit)) for share, limit in zip(shares, limits, strict=True)]
    while sum(parts) < total:
        room = [i for i, share in enumerate(shares) if share and parts[i] < limits[i]]
        if not room:
            return None
        parts[max(room, key=lambda i: shares[i] - parts[i])] += 1
    return parts


def most_given(proportions: dict[str, float | int], name: str, rows: int) -> int:
    """How many of `rows` rows can come from a corpus at most."""
    parts = dict(zip(proportions, whole_parts_of(proportions.values()), strict=True))
    return -(-rows * parts[name] // sum(parts.values())) if parts.get(name) else 0


def whole_parts_of(proportions: Iterable[float | int]) -> list[int]:
    """`whole_parts`, where 0 stays 0."""
    some = list(proportions)
    parts = iter(whole_parts([p for p in some if p]))
    return [next(parts) if p else 0 for p in some]


def _simple(weights: Sequence[float | int], names: Sequence[str]) -> list[float | int]:
    """The weights themselves where they are simple fractions of each other, else whole parts of ten thousand, or of a hundred thousand."""
    try:
        whole_parts_of(weights)
        return list(weights)
    except ConfigError:
        pass
    for total in (GRAIN, LONGEST_PERIOD):
        parts = rounded([weight * total / sum(weights) for weight in weights], [math.inf] * len(weights), total)
        if parts is not None and all(part or not weight for part, weight in zip(parts, weights, strict=True)):
            return list(parts)
    least = min((weight, name) for weight, name in zip(weights, names, strict=True) if weight)[1]
    raise ConfigError(f"Train.sources: {least!r} would give less than one row in {LONGEST_PERIOD}; leave it out, or give it more")


def _after(corpus: Corpus, rows: int) -> Corpus:
    """The corpus with so many rows given away."""
    return corpus if corpus.most_rows is None else replace(corpus, most_rows=max(0, corpus.most_rows - rows))
