"""The stage `Report`."""

from __future__ import annotations

from typing import Any

from bloomery.stages.evaluate import Evaluate
from bloomery.stages.report.html import html_page
from bloomery.stages.report.page import Page, examination_of, made_of, training_of
from bloomery.stages.report.text import text_page
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.train import Train
from bloomery.store import Workspace, write_text


class Report(Stage):
    """Gathers trainings and examinations into `report.txt` and `report.html`."""

    title: str
    """At the head of the page."""
    trainings: tuple[Train, ...]
    """In the order in which they followed each other."""
    examinations: tuple[Evaluate, ...] = ()
    """In the order in which their columns stand."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        trained = [training_of(inputs[t]) for t in self.trainings]
        examined = [examination_of(inputs[e]) for e in self.examinations]
        made = made_of([inputs[s] for s in (*self.trainings, *self.examinations)], context.store)
        page = Page(self.title, trained, examined, made)
        text = text_page(page)
        write_text(workspace.path / "report.txt", text)
        write_text(workspace.path / "report.html", html_page(page))
        context.say(text)
        return {**{f"exact_match_{e.name}": e.exact for e in examined}, **page.last_bits()}
