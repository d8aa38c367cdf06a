"""`TaleTruth`: how many rows about tales are right; `SetsCompared`: what sets of rows were worth to the students that read them.

    sets.txt        the table
    results.json    every score of every student
"""

from __future__ import annotations

import json
from statistics import mean
from typing import Any

from pydantic import Field

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.look import text_page
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.sheet import spread
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.store import Workspace, read_json, write_json, write_text
from bloomery.text.tales import Tales


class TaleTruth(Stage):
    """Compares questions and answers about tales, whose truth is known, with what the tales determine. No check of ours sees it."""

    corpus: Prepare
    """Conversations whose `meta` names the tale that they are about ("about")."""
    tales: Tales
    """The book."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        lines = []
        for batch in documents(inputs[self.corpus], columns=("id", "messages", "meta")):
            for row in batch.to_pylist():
                about = json.loads(row["meta"] or "{}").get("about", "")
                book, _, number = about.rpartition("/")
                if book != self.tales.name():
                    raise DataError(f"{row['id']} is about {about!r}, which is no tale of {self.tales.name()}; give the book that it is from")
                asked, said = (message["content"] for message in row["messages"][-2:])
                known = self.tales.answers(int(number))
                question = asked.rpartition("\n\n")[2]
                lines.append({"id": row["id"], "can_be_asked": question in known, "right": known.get(question) == said.strip()})
        write_text(workspace.path / "truth.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        counts = {name: sum(line[name] for line in lines) for name in ("can_be_asked", "right")}
        return {"rows": len(lines), **counts, "precision": round(counts["right"] / max(1, len(lines)), 4)}


class RowSet(Config):
    """A set of rows, and the examinations of the students that read it, one for each seed."""

    name: str
    """In the table."""
    exams: tuple[Evaluate, ...] = Field(min_length=1)
    """Of each student, on the same questions."""
    truth: TaleTruth | None = None
    """How many of the rows are right; None where nobody knows."""


class SetsCompared(Stage):
    """Sets of rows side by side: how many, how many of them right, and what students who read them answer of questions that none has read."""

    title: str
    """Above the table."""
    sets: tuple[RowSet, ...] = Field(min_length=1)
    """In the order of the table."""

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        head = ("rows", "how many", "right", "held-out accuracy", "of each seed")
        rows, found = [head], {}
        for one in self.sets:
            scores = [read_json(inputs[exam].checked("results.json"))["exact_match"] for exam in one.exams]
            truth = None if one.truth is None else inputs[one.truth].manifest.summary
            rows.append((
                one.name, "" if truth is None else str(truth["rows"]), "" if truth is None else f"{truth['precision']:.1%}",
                f"{mean(scores):.1%} ± {spread(scores):.1%}", ", ".join(f"{score:.1%}" for score in scores),
            ))  # fmt: skip
            found[one.name] = {"accuracy": scores, "truth": truth}
        told = "± is the standard deviation over the seeds of the students"
        text = text_page(self.title, rows, range(1, 4), [told])
        write_text(workspace.path / "sets.txt", text)
        write_json(workspace.path / "results.json", found)
        context.say(text)
        return {name: round(mean(one["accuracy"]), 4) for name, one in found.items()}
