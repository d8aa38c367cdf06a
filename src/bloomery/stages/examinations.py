"""`Examinations`: ways of tuning for questions with choices side by side, each over several seeds and as an ensemble of them.

    examinations.txt     the table, and what follows from it
    examinations.html    the same with the plot
    examinations.svg     the plot
    results.json         every figure of every run
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.data import TokenShards
from bloomery.data.labelled import Choices
from bloomery.evals.metrics import accuracy, mean_average_precision
from bloomery.stages.examine import Examine
from bloomery.stages.look import COLOURS, plot
from bloomery.stages.remedies import line_of
from bloomery.stages.sheet import Sheet, check_names, spread
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.store import Workspace, read_json

K = 3  # MAP@K


class Variant(Config):
    """A way of tuning, in several runs that differ in their seeds."""

    name: str
    """In the table and in the plot."""
    runs: tuple[Examine, ...] = Field(min_length=1)
    """The examination of each seed."""
    together: Examine | None = None
    """That of the ensemble of them."""


class Examinations(Stage):
    """Sets examinations in the same questions side by side. The first way is the one that the others are measured by, seed by seed.

    Beside them stand two who know nothing: chance, and always taking the longest choice, which has nothing to do with the question.
    """

    title: str
    """At the head of the page."""
    rows: Tokenize
    """What all are asked, encoded as `Choices()`."""
    ways: tuple[Variant, ...] = Field(min_length=1)
    """Of which the first is the plain one."""

    def check(self) -> None:
        check_names(self, "ways", self.ways)
        plain = self.ways[0]
        if not isinstance(self.rows.encoding, Choices):
            raise self.refuse("rows", f"are encoded as {self.rows.encoding.kind()}, which brings no choices; take Choices()")
        for way in self.ways:
            if len(way.runs) != len(plain.runs):
                raise ConfigError(f"Examinations.ways: {way.name} has {len(way.runs)} runs and {plain.name} {len(plain.runs)}, so that "
                                  "they cannot be compared seed by seed; give them as many")  # fmt: skip
            for run in (*way.runs, *([] if way.together is None else [way.together])):
                if run.rows != self.rows:
                    raise ConfigError(f"Examinations.ways: {way.name} is examined in {run.rows.reference}, which are not the rows="
                                      f"{self.rows.reference}; ask all the same")  # fmt: skip

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        def marks(examined: Examine) -> Marks:
            results = read_json(inputs[examined].checked("results.json"))
            return Marks(results["accuracy"], results["map_at_3"])

        assert isinstance(self.rows.encoding, Choices)  # `check` refuses any other
        shards = TokenShards.open(inputs[self.rows])
        plain = self.ways[0].runs[0].model
        columns = [
            Column(way.name, line_of(way.runs[0].model, plain), [marks(run) for run in way.runs],
                   None if way.together is None else marks(way.together))
            for way in self.ways
        ]  # fmt: skip
        labelled = int((shards.learnt > 0).sum())
        page = Page(self.title, labelled, chance(self.rows.encoding.count), longest(shards), columns)
        page.leave(workspace, "examinations", context)
        return {f"{column.name}: {what}": round(value, 4) for column in columns for what, value in vars(column.mean).items()}


@dataclass(frozen=True)
class Marks:
    """What an examination came to."""

    accuracy: float
    map_at_3: float


@dataclass(frozen=True)
class Column:
    """What came of a way: of each seed, of their ensemble, and the line of the recipe that makes it."""

    name: str
    line: str
    runs: Sequence[Marks]
    together: Marks | None

    @property
    def mean(self) -> Marks:
        """Over the seeds."""
        return Marks(mean(run.accuracy for run in self.runs), mean(run.map_at_3 for run in self.runs))

    @property
    def spread(self) -> Marks:
        """Standard deviations over the seeds; 0 of a single one."""
        return Marks(spread([run.accuracy for run in self.runs]), spread([run.map_at_3 for run in self.runs]))


@dataclass(frozen=True)
class Difference:
    """MAP@3 of a way less that of another, seed by seed.

    Attributes:
        mean: over the seeds.
        error: its standard error, the standard deviation divided by √seeds; 0 of a single one.
        ahead: seeds in which it is not below.
    """

    mean: float
    error: float
    ahead: int

    @classmethod
    def between(cls, one: Column, plain: Column) -> Difference:
        """Of two ways with the same seeds."""
        each = [a.map_at_3 - b.map_at_3 for a, b in zip(one.runs, plain.runs, strict=True)]
        return cls(mean(each), spread(each) / len(each) ** 0.5, sum(value >= 0 for value in each))


@dataclass(frozen=True)
class Page(Sheet):
    """The page. `columns` has the plain way first."""

    figures: ClassVar[range] = range(1, 6)
    questions: int
    chance: Marks
    longest: Marks
    columns: Sequence[Column]

    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""
        rows: list[tuple[str, ...]] = [("way", "accuracy", "MAP@3", "less plain", "ensemble's accuracy", "its MAP@3", "line of the recipe")]
        for name, marks in (("chance", self.chance), ("the longest choice", self.longest)):
            rows.append((name, f"{marks.accuracy:.1%}", f"{marks.map_at_3:.4f}", "", "", "", ""))
        for column in self.columns:
            less = Difference.between(column, self.columns[0])
            rows.append((
                column.name, f"{column.mean.accuracy:.1%} ± {column.spread.accuracy:.1%}",
                f"{column.mean.map_at_3:.4f} ± {column.spread.map_at_3:.4f}",
                "" if column is self.columns[0] else f"{less.mean:+.4f} ± {less.error:.4f}",
                *(("", "") if column.together is None else (f"{column.together.accuracy:.1%}", f"{column.together.map_at_3:.4f}")), column.line,
            ))  # fmt: skip
        return rows

    def conclusions(self) -> list[str]:
        """What follows, in sentences."""
        plain, seeds = self.columns[0], len(self.columns[0].runs)
        said = [f"{self.questions} questions; ± is the standard deviation over {seeds} seed{'s' if seeds > 1 else ''}, of differences the "
                "standard error of their mean, seed by seed"]  # fmt: skip
        for column in self.columns[1:]:
            less = Difference.between(column, plain)
            sure = "more" if abs(less.mean) > 2 * less.error else "less"
            trust = f"{sure} than two standard errors; not below in {less.ahead} of {seeds} seeds"
            side = "not below" if less.mean >= 0 else "below"
            said.append(f"{column.name} is {side} {plain.name} on the mean, by {less.mean:+.4f} MAP@3, "
                        f"{trust if seeds > 1 else 'which one seed does not settle'}")  # fmt: skip
        for column in self.columns:
            if column.together is not None:
                gain = column.together.map_at_3 - column.mean.map_at_3
                said.append(f"the ensemble of {column.name} has {gain:+.4f} MAP@3 over the mean of its members")
        return said

    def svg(self) -> str:
        """MAP@3 of every seed and of the ensembles."""

        def draw(axes: Any) -> None:
            for place, (column, colour) in enumerate(zip(self.columns, COLOURS * len(self.columns), strict=False)):
                axes.plot([place] * len(column.runs), [run.map_at_3 for run in column.runs], "o", color=colour, markersize=4, alpha=0.6)
                axes.plot([place - 0.15, place + 0.15], [column.mean.map_at_3] * 2, color=colour, linewidth=1.2)
                if column.together is not None:
                    axes.plot([place], [column.together.map_at_3], "*", color=colour, markersize=9, label="ensemble" if not place else None)
            for name, marks, style in (("longest choice", self.longest, "--"), ("chance", self.chance, ":")):
                axes.axhline(marks.map_at_3, color="#5b6570", linewidth=0.8, linestyle=style, label=name)
            axes.set_xticks(range(len(self.columns)), [column.name for column in self.columns])
            axes.set_xlim(-0.5, len(self.columns) - 0.5)
            axes.set_ylabel("MAP@3")

        return plot(self.title, draw, "way of tuning; a point is a seed")

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "questions": self.questions, "chance": vars(self.chance), "longest": vars(self.longest),
            "ways": {
                column.name: {
                    "line": column.line, "runs": [vars(run) for run in column.runs],
                    "ensemble": None if column.together is None else vars(column.together),
                    "less": vars(Difference.between(column, self.columns[0])),
                } for column in self.columns
            },
        }  # fmt: skip


def chance(choices: int) -> Marks:
    """What choosing blindly comes to:  accuracy 1/n, MAP@3 (1 + 1/2 + 1/3)/n."""
    return Marks(1 / choices, sum(1 / rank for rank in range(1, min(K, choices) + 1)) / choices)


def longest(shards: TokenShards) -> Marks:
    """What always taking the choice of most tokens comes to, of equal ones the first; prompts are the same in all, and the token that begins a
    question begins each of its choices."""
    asked = [document for document in range(len(shards)) if len(shards.labels(document))]
    tokens = [np.asarray(shards.document(document)) for document in asked]
    lengths = np.array([np.diff([*np.flatnonzero(one == one[0]), len(one)]) for one in tokens], np.float64)
    wanted = np.array([int(shards.labels(document)[0]) for document in asked])
    return Marks(accuracy(wanted, lengths.argmax(1)), mean_average_precision(lengths, wanted, K))
