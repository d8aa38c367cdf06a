"""`Alignment`: one page on a model before and after each stage of its training.

    alignment.txt     a table of all figures, a column for each model
    alignment.html    the same, with the page of each model
    results.json      figures, examples and views
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from bloomery.stages.alignment.asked import Asked
from bloomery.stages.alignment.page import Judged, Page
from bloomery.stages.alignment.probe import Probe, View
from bloomery.stages.sheet import check_names
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.trained import Trained
from bloomery.store import Workspace, write_json, write_text


class Alignment(Stage):
    """Puts the same probes to several models, and looks into each.

    Example:
        >>> Alignment(models=(base, chat, aligned), probes=(Answers(questions=exam), Untold(questions=exam), Slips(prompts=web)),
        ...           views=(LogitLens(prompt="The farmer went to the"),))
    """

    title: str = "What alignment has changed"
    """At the head of the page."""
    models: tuple[Trained, ...] = Field(min_length=1)
    """In the order in which they were made; the first is what the last is compared with."""
    probes: tuple[Probe, ...] = Field(min_length=1)
    """What is asked of each."""
    views: tuple[View, ...] = ()
    """What is looked at in each."""

    def check(self) -> None:
        check_names(self, "models", self.models)
        check_names(self, "probes", self.probes)

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        judged = []
        for trained in self.models:
            asked, findings = Asked.of(inputs[trained], context.device), {}
            for probe in self.probes:
                findings[probe.name] = probe.measure(asked, inputs)
                told = ", ".join(f"{name} {figure}" for name, figure in findings[probe.name].figures.items())
                context.say(f"{self.reference}: {trained.name}: {probe.name}: {told}")
            judged.append(Judged(trained.name, findings, [view.look(asked, inputs) for view in self.views]))
        page = Page(self.title, judged)
        write_text(workspace.path / "alignment.txt", page.text())
        write_text(workspace.path / "alignment.html", page.html())
        write_json(workspace.path / "results.json", page.plain())
        context.say(page.text())
        of_last = {f"{probe}: {name}": one for probe, found in judged[-1].findings.items() for name, one in found.figures.items()}
        return {name: round(one.value, 4) for name, one in of_last.items() if not math.isnan(one.value)}
