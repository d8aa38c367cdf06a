"""`Remedies`: ways of tuning one base set side by side: what each has learnt of the new task, and what it has kept of the old one.

    remedies.txt     the table, and what follows from it
    remedies.html    the same with the plot
    remedies.svg     the plot
    results.json     every score of every run
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Annotated, Any, ClassVar

from annotated_types import Gt
from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.data import TokenShards
from bloomery.mesh import ALONE
from bloomery.objectives import Combined
from bloomery.stages.look import COLOURS, plot
from bloomery.stages.paired import Way
from bloomery.stages.sheet import Sheet, check_names, spread
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.trained import Trained, opened
from bloomery.store import Workspace
from bloomery.train.suites import answered

ROWS = 16  # per forward pass
KEPT = 0.95  # of the old score, and of what plain tuning reaches in the new one: what a remedy is to hold


class Remedy(Way):
    """A way of tuning."""


class Remedies(Stage):
    """Asks the base and all that was made of it about an old and a new task, by questions that none has read.

    The first remedy is none: plain tuning, which the others are measured by. A remedy is on the Pareto front if no other keeps as much of the
    old task and learns as much of the new one, and more of either.
    """

    title: str
    """At the head of the page."""
    base: Trained
    """Before any tuning."""
    remedies: tuple[Remedy, ...] = Field(min_length=1)
    """Plain tuning first."""
    old: Tokenize
    """Conversations about what the base knows, encoded as `Chat()`."""
    new: Tokenize
    """Conversations about what is tuned for."""
    max_seq_len: Annotated[int, Gt(0)] = 256
    """Tokens in a row."""
    questions: Annotated[int, Gt(0)] = 1000
    """Of each side, at most, or a few more."""

    def check(self) -> None:
        check_names(self, "remedies", self.remedies)
        for tokens in (self.old, self.new):
            if not tokens.encoding.masked:
                raise ConfigError(f"Remedies: {tokens.reference} does not say what in it is an answer; encode conversations as Chat()")

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        sides = {side: TokenShards.open(inputs[tokens]) for side, tokens in (("old", self.old), ("new", self.new))}

        def scores(trained: Trained) -> Scores:
            model = opened(inputs[trained], context.device)
            asked = {
                side: answered(
                    model, shards, time=self.max_seq_len, rows=ROWS, questions=self.questions, mesh=ALONE, device=context.device,
                ) for side, shards in sides.items()
            }  # fmt: skip
            return Scores(*(right / max(1, of) for right, of in asked.values()))

        base, points = scores(self.base), []
        for remedy in self.remedies:
            points.append(Point(remedy.name, line_of(remedy.runs[0], self.remedies[0].runs[0]), [scores(run) for run in remedy.runs]))
            context.progress(f"{self.reference}: {remedy.name}: old {points[-1].old:.1%}, new {points[-1].new:.1%}")
        page = Comparison(self.title, base, points)
        page.leave(workspace, "remedies", context)
        return {f"{point.name}: {side}": round(value, 4) for point in points for side, value in (("old", point.old), ("new", point.new))} | {
            "plain loses": round(base.old - points[0].old, 4), "hold": [point.name for point in page.holding()],
        }  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """Shares of right answers."""

    old: float
    new: float


@dataclass(frozen=True)
class Point:
    """What came of a remedy: of each seed, and the line of the recipe that makes it."""

    name: str
    line: str
    runs: Sequence[Scores]

    @property
    def old(self) -> float:
        """Mean over the seeds."""
        return mean(run.old for run in self.runs)

    @property
    def new(self) -> float:
        """Mean over the seeds."""
        return mean(run.new for run in self.runs)

    @property
    def spread(self) -> Scores:
        """Standard deviations over the seeds; 0 of a single one."""
        return Scores(spread([run.old for run in self.runs]), spread([run.new for run in self.runs]))


@dataclass(frozen=True)
class Comparison(Sheet):
    """The page. `points` has plain tuning first."""

    figures: ClassVar[range] = range(1, 5)
    base: Scores
    points: Sequence[Point]

    def front(self) -> list[Point]:
        """The remedies that no other beats, by what they learn."""
        return sorted((one for one in self.points if not any(beats(other, one) for other in self.points)), key=lambda point: point.new)

    def holding(self) -> list[Point]:
        """The remedies that hold what is asked of one."""
        plain = self.points[0]
        return [point for point in self.points if point.old >= KEPT * self.base.old and point.new >= KEPT * plain.new]

    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""
        front, plain = self.front(), self.points[0]
        head = ("remedy", "old task", "kept", "new task", "of plain", "front", "line of the recipe")
        rows = [("before tuning", f"{self.base.old:.1%}", "", f"{self.base.new:.1%}", "", "", "")]
        for point in self.points:
            spread = point.spread
            rows.append((
                point.name, f"{point.old:.1%} ± {spread.old:.1%}", f"{point.old / self.base.old:.1%}" if self.base.old else "–",
                f"{point.new:.1%} ± {spread.new:.1%}", f"{point.new / plain.new:.1%}" if plain.new else "–", "★" if point in front else "",
                point.line,
            ))  # fmt: skip
        return [head, *rows]

    def conclusions(self) -> list[str]:
        """What follows, in sentences."""
        plain, seeds = self.points[0], len(self.points[0].runs)
        held = ", ".join(point.name for point in self.holding()) or "none"
        return [
            f"± is the standard deviation over {seeds} seed{'s' if seeds > 1 else ''}; ★ stands on the Pareto front",
            f"{plain.name} loses {100 * (self.base.old - plain.old):.1f} points of the old task, of {100 * self.base.old:.1f}",
            f"at least {KEPT:.0%} of the old score at no less than {KEPT:.0%} of {plain.name}'s new one: {held}",
        ]

    def svg(self) -> str:
        """New-task gain against old-task loss, with the Pareto front."""

        def draw(axes: Any) -> None:
            for point, colour in zip(self.points, COLOURS * len(self.points), strict=False):
                spread = point.spread
                at = 100 * point.new, 100 * point.old
                axes.errorbar(*at, 100 * spread.old, 100 * spread.new, "o", color=colour, markersize=4, linewidth=0.8)
                axes.annotate(point.name, at, textcoords="offset points", xytext=(5, 4), fontsize=7)
            front = [(100 * point.new, 100 * point.old) for point in self.front()]
            axes.plot(*zip(*front, strict=True), color="#5b6570", linewidth=0.8, linestyle="--", label="Pareto front")
            axes.axhline(100 * self.base.old, color="#5b6570", linewidth=0.6, linestyle=":", label="before tuning")
            axes.set_ylabel("old task, % right")

        return plot(self.title, draw, "new task, % right")

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "base": vars(self.base), "front": [point.name for point in self.front()], "holding": [point.name for point in self.holding()],
            "remedies": {point.name: {"line": point.line, "runs": [vars(run) for run in point.runs]} for point in self.points},
        }  # fmt: skip


def beats(one: Point, other: Point) -> bool:
    """Whether one is as good as the other on both sides and better on one."""
    return one.old >= other.old and one.new >= other.new and (one.old, one.new) != (other.old, other.new)


def line_of(run: Trained, plain: Trained) -> str:
    """What of a recipe makes a run: the fields in which it differs from plain tuning, or all of them where it is another stage."""
    fields = {name: value for name, value in run.non_default_fields().items() if name not in ("name", "seed")}
    if type(run) is not type(plain):
        return f"{run.kind()}({_listed(fields)})"
    return _listed({name: value for name, value in fields.items() if value != getattr(plain, name)}) or "as it is"


def in_short(value: Any) -> str:
    """A value as one would write it, with stages by their names."""
    if isinstance(value, Stage):
        return value.name
    if isinstance(value, Combined):
        return " + ".join(in_short(one) if factor == 1.0 else f"{factor:g} * {in_short(one)}" for factor, one in value.terms)
    if isinstance(value, Config):
        return f"{value.kind()}({_listed(value.non_default_fields())})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(in_short, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {in_short(one)}" for name, one in value.items()) + "}"
    return repr(value)


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={in_short(value)}" for name, value in fields.items())
