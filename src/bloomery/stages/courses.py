"""`Courses`: ways of continued training from one base, side by side: what each phase leaves of the old text and learns of the new.

    courses.txt       the table, what follows from it, and whether the model has room for what it is to learn
    courses.html      the same with the plot
    courses.svg       the plot
    results.json     every figure
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.core.units import human_count
from bloomery.planning.sizing import advice
from bloomery.stages.look import COLOURS, plot
from bloomery.stages.remedies import line_of
from bloomery.stages.sheet import Sheet
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.train import Train
from bloomery.store import Artifact, Workspace


class Course(Config):
    """A way of going on: one training after the other."""

    name: str
    """In the table and in the plot."""
    phases: tuple[Train, ...] = Field(min_length=1)
    """In their order, the first one from the base on."""


class Courses(Stage):
    """Reads what the base and each phase of several courses measured on old and on new text that none was trained on."""

    title: str
    """At the head of the page."""
    base: Train
    """What all go on from."""
    courses: tuple[Course, ...] = Field(min_length=1)
    """Ways of going on."""
    old: Tokenize
    """Text such as the base was trained on; watched by all, as `held_out`."""
    new: Tokenize
    """Text such as it is to learn; likewise."""

    def check(self) -> None:
        for train in (self.base, *(phase for course in self.courses for phase in course.phases)):
            for tokens in (self.old, self.new):
                if tokens not in train.watch.held_out:
                    raise ConfigError(f"Courses: {train.name} does not measure {tokens.name}; put it into its watch.held_out")
        for course in self.courses:
            before: Train = self.base
            for phase in course.phases:
                if (begun := phase.init.goes_on_from) is None or begun.name != before.name:
                    raise ConfigError(f"Courses.courses: {phase.name} of {course.name} does not go on from {before.name}; take "
                                      f"{before.name}.then(…)")  # fmt: skip
                before = phase

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        sides = (self.old.name, self.new.name)
        base = After(self.base.name, "", 0, *measured(inputs[self.base], sides)[-1][1:])
        lines = []
        for course in self.courses:
            told, path, tokens = [], [(0, base.old, base.new)], 0
            for phase in course.phases:
                found = measured(inputs[phase], sides)
                path += [(tokens + step * phase.batch_tokens, old, new) for step, old, new in found if step]
                tokens += phase.total_rows * phase.max_seq_len
                told.append(After(phase.name, line_of(phase, self.base), tokens, *found[-1][1:]))
            lines.append(Line(course.name, told, path))
        model, learnt = self.base.architecture, self.base.tokens_before + self.base.total_rows * self.base.max_seq_len
        most = max(line.phases[-1].tokens for line in lines)
        page = Page(self.title, base, lines, advice(model.n_params, learnt, most) if model is not None else [])
        page.leave(workspace, "courses", context)
        ends = {line.name: line.phases[-1] for line in lines}
        return {f"{name}: {side}": round(getattr(end, side), 4) for name, end in {"base": base, **ends}.items() for side in ("old", "new")}


def measured(trained: Artifact, sides: tuple[str, str]) -> list[tuple[int, float, float]]:
    """(step, bits per byte of old text, of new text) at each measurement of a training."""
    old, new = (f"held_out/{side}/bits_per_byte" for side in sides)
    records = map(json.loads, trained.checked("metrics.jsonl").read_text().splitlines())
    return [(record["step"], record[old], record[new]) for record in records if old in record]


@dataclass(frozen=True)
class After:
    """Where a training ended: its name, the line of the recipe that makes it, tokens since the base, bits per byte."""

    name: str
    line: str
    tokens: int
    old: float
    new: float


@dataclass(frozen=True)
class Line:
    """A course: its phases' ends, and (tokens since the base, old, new) along the way."""

    name: str
    phases: Sequence[After]
    path: Sequence[tuple[int, float, float]]


@dataclass(frozen=True)
class Page(Sheet):
    """The page."""

    figures: ClassVar[range] = range(2, 7)
    base: After
    lines: Sequence[Line]
    advice: Sequence[str]

    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""
        head = ("course", "after", "tokens", "old bits per byte", "change", "new bits per byte", "change", "line of the recipe")
        rows: list[tuple[str, ...]] = [head]
        rows.append(("", self.base.name, "", f"{self.base.old:.4f}", "", f"{self.base.new:.4f}", "", ""))
        for line in self.lines:
            for place, one in enumerate(line.phases):
                rows.append((
                    "" if place else line.name, one.name, human_count(one.tokens), f"{one.old:.4f}", f"{one.old - self.base.old:+.4f}",
                    f"{one.new:.4f}", f"{one.new - self.base.new:+.4f}", one.line,
                ))  # fmt: skip
        return rows

    def conclusions(self) -> list[str]:
        """What follows, in sentences."""
        said = []
        for line in self.lines:
            end = line.phases[-1]
            lost, won = end.old - self.base.old, self.base.new - end.new
            each = f"{lost / won:+.3f} bits per byte of the old for each of the new" if won > 0 else "nothing learnt of the new"
            said.append(f"{line.name}: {each}")
        return [*said, *self.advice]

    def svg(self) -> str:
        """Bits per byte of both over the tokens since the base."""

        def draw(axes: Any) -> None:
            for line, colour in zip(self.lines, COLOURS * len(self.lines), strict=False):
                tokens, old, new = zip(*line.path, strict=True)
                axes.plot(tokens, old, color=colour, label=f"{line.name}: old")
                axes.plot(tokens, new, color=colour, linestyle="--", label="new")
            axes.set_ylabel("bits per byte")

        return plot(self.title, draw, "tokens since the base")

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "base": vars(self.base), "advice": list(self.advice),
            "courses": {
                line.name: {"phases": [vars(one) for one in line.phases], "path": [list(at) for at in line.path]} for line in self.lines
            },
        }  # fmt: skip
