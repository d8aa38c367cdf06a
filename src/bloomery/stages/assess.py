"""`Assess`: tasks put to a model, and to another beside it.

    assessment.txt, assessment.html   the figures with their errors; how sure and how right; every wrong answer
    results.json                      every figure
    answers.jsonl                     every answer
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bloomery.core.errors import ConfigError
from bloomery.evals import EvalTask, Respondent
from bloomery.models import causal
from bloomery.stages.assessment import Assessment
from bloomery.stages.sheet import check_names
from bloomery.stages.stage import Inputs, RunContext, Stage
from bloomery.stages.trained import Trained, opened, tokenizer_of
from bloomery.store import Artifact, Workspace
from bloomery.text.readers import Reader


class Assess(Stage):
    """Puts tasks to a model: multiple choice by likelihood, questions that it writes an answer to, texts that it foresees.

    Example:
        >>> Assess(model=chat, tasks=(arc, sums), against=base)
    """

    title: str = "What a model makes of its tasks"
    """At the head of the page."""
    model: Trained
    """The model."""
    tasks: tuple[EvalTask, ...] = Field(min_length=1)
    """What is put to it."""
    against: Trained | None = None
    """Another model that is asked the same; differences are told question by question."""

    def check(self) -> None:
        check_names(self, "tasks", self.tasks)
        if self.against is not None and self.against.name == self.model.name:
            raise self.refuse("against", "has the name of the model, by which tables tell them apart; give one of them another")

    def work(self, context: RunContext, inputs: Inputs, workspace: Workspace) -> dict[str, Any]:
        def at_hand(task: EvalTask) -> EvalTask:
            """A task that reads what stages have left from where that is."""
            sources = {name: source for name in ("rows", "examples") if isinstance(source := getattr(task, name, None), Reader)}
            return task.replace(**{name: source.resolved(lambda stage: inputs[stage].path) for name, source in sources.items()})

        trained = (self.model, *([] if self.against is None else [self.against]))
        respondents = [respondent(inputs[one], one.name, context.device) for one in trained]
        tasks = [at_hand(task) for task in self.tasks]
        assessment = Assessment.of(self.title, tasks, respondents, lambda line: context.progress(f"{self.reference}: {line}"))
        assessment.leave(workspace.path)
        workspace.count("answers.jsonl", rows=sum(1 for _ in assessment.lines()))
        context.say(assessment.text())
        firsts = [assessment.sittings[0][numbers[0]] for numbers in assessment.tasks().values()]
        return {f"{one.task}: {name}": round(measure.value, 6) for one in firsts for name, measure in one.measures.items()}


def respondent(trained: Artifact, name: str, device: str) -> Respondent:
    """What a `Trained` has left, to be asked; raises `ConfigError` where it cannot go on with a text."""
    model = causal(opened(trained, device))
    if model.config.reads_passage:
        raise ConfigError(f"{name} writes about a passage, and tasks are put to what goes on with a text; take a decoder, or Examine")
    return Respondent(name, model, tokenizer_of(trained))
