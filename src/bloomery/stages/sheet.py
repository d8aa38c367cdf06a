"""`Sheet`: a page that sets ways of doing something side by side: a table, what follows from it, and a plot; as text, HTML and SVG."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import stdev
from typing import Any, ClassVar, Protocol

from bloomery.core.config import Config
from bloomery.stages.look import document, table, text_page
from bloomery.stages.stage import RunContext
from bloomery.store import Workspace, write_json, write_text


@dataclass(frozen=True)
class Sheet(ABC):
    """Subclasses say what is in it."""

    figures: ClassVar[range]
    """The columns of the table that hold numbers; the last column is the line of a recipe."""
    title: str
    """At its head."""

    @abstractmethod
    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""

    @abstractmethod
    def conclusions(self) -> list[str]:
        """What follows, in sentences."""

    @abstractmethod
    def svg(self) -> str:
        """The plot."""

    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""

    def text(self) -> str:
        """The page in plain text."""
        return text_page(self.title, self.rows(), self.figures, self.conclusions())

    def html(self) -> str:
        """The page as HTML."""
        head, *rows = self.rows()
        cells = [(*map(escape, row[:-1]), f"<code>{escape(row[-1])}</code>") for row in rows]
        told = "".join(f"<p>{escape(line)}</p>" for line in self.conclusions())
        figure = f'<div class="plots">{self.svg()}</div>'
        return document(self.title, f"<h1>{escape(self.title)}</h1>{figure}{table(head, cells, self.figures)}{told}")

    def leave(self, workspace: Workspace, name: str, context: RunContext) -> None:
        """Writes NAME.txt, NAME.svg, NAME.html and results.json, and says the text."""
        text = self.text()
        for kind, content in (("txt", text), ("svg", self.svg()), ("html", self.html())):
            write_text(workspace.path / f"{name}.{kind}", content)
        write_json(workspace.path / "results.json", self.plain())
        context.say(text)


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """The name."""
        ...


def check_names(stage: Config, field: str, ways: Iterable[Named]) -> None:
    """Refuses ways of which two have one name."""
    names = [way.name for way in ways]
    if len(set(names)) < len(names):
        raise stage.refuse(field, "must have different names; name each for what it does")


def spread(values: Sequence[float]) -> float:
    """Standard deviation; 0 of a single value."""
    return stdev(values) if len(values) > 1 else 0.0
