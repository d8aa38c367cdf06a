"""`Assessment`: what models make of tasks, as tables, as a page on which every wrong answer can be read, and as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from bloomery.evals import Estimate, EvalTask, Outcome, Respondent, Sitting, Spread
from bloomery.evals.choices import reliability
from bloomery.evals.task import Progress
from bloomery.stages.look import COLOURS, document, html_tables, plot, table, text_tables
from bloomery.store import write_json, write_text

Table = tuple[str, list[tuple[str, ...]]]


@dataclass(frozen=True)
class Assessment:
    """Models beside each other.

    Attributes:
        title: at the head of the page.
        models: their names; differences are those to the last of them.
        sittings: of each model, in the same order.
    """

    title: str
    models: Sequence[str]
    sittings: Sequence[Sequence[Sitting]]

    @classmethod
    def of(cls, title: str, tasks: Sequence[EvalTask], respondents: Sequence[Respondent], progress: Progress = lambda line: None) -> Assessment:
        """Puts the same tasks to one model, or to two."""
        sittings = [[one for task in tasks for one in task.sittings(respondent, progress)] for respondent in respondents]
        return cls(title, [respondent.name for respondent in respondents], sittings)

    def tasks(self) -> dict[str, list[int]]:
        """The numbers of the sittings of each task, one for each wording."""
        found: dict[str, list[int]] = {}
        for number, sitting in enumerate(self.sittings[0]):
            found.setdefault(sitting.task, []).append(number)
        return found

    def differences(self, number: int) -> dict[str, Estimate]:
        """By how much the first model is ahead of the last in a sitting, by measure; of one model nothing."""
        first, *_, last = (*self.sittings, self.sittings[-1])
        if first is last:
            return {}
        return {name: measure.less(last[number].measures[name]) for name, measure in first[number].measures.items()}

    def tables(self) -> list[Table]:
        """The figures of each task in its first wording, and those that count in all wordings."""
        found: list[Table] = []
        for task, numbers in self.tasks().items():
            sitting = self.sittings[0][numbers[0]]
            less, head = self.differences(numbers[0]), ["", *(cell for model in self.models for cell in (model, "95 %"))]
            rows: list[tuple[str, ...]] = [(*head, f"{self.models[0]} less {self.models[-1]}", "95 %", "") if less else tuple(head)]
            for name in sitting.measures:
                estimates = [of_model[numbers[0]].measures[name].estimate() for of_model in self.sittings]
                cells = [name.replace("_", " "), *(cell for one in estimates for cell in (str(one), one.interval()))]
                if less:
                    cells += [str(less[name]), less[name].interval(), "" if less[name].sure else "may be chance"]
                rows.append(tuple(cells))
            found.append((f"{task}: {len(sitting.outcomes)} rows, in the wording {sitting.prompt!r}", rows))
            if len(numbers) > 1:
                found.append((f"{task}: wordings", self._wordings(numbers)))
        return found

    def _wordings(self, numbers: Sequence[int]) -> list[tuple[str, ...]]:
        """Of each model what counts, in each wording, and how far that is from the first one, question by question."""
        name, first = next(iter(self.sittings[0][numbers[0]].measures)), self._prompt(numbers[0])
        rows: list[tuple[str, ...]] = [(name.replace("_", " "), *(cell for model in self.models for cell in (model, f"less {first}")))]
        measures = [[of_model[number].measures[name] for number in numbers] for of_model in self.sittings]
        for place, number in enumerate(numbers):
            cells = (c for of in measures for c in (str(of[place].estimate()), str(of[place].less(of[0])) if place else ""))
            rows.append((self._prompt(number), *cells))
        for label, shown in (("mean", "mean"), ("lowest", "low"), ("highest", "high"), ("deviation", "deviation")):
            values = (getattr(Spread.of([one.value for one in of]), shown) for of in measures)
            unit = measures[0][0].unit
            rows.append((label, *(c for value in values for c in (f"{value:.1%}" if unit == "%" else f"{value:.4f}", ""))))
        return rows

    def _prompt(self, number: int) -> str:
        return self.sittings[0][number].prompt

    def said(self) -> list[str]:
        """How the tables are to be read."""
        lines = ["± is the standard error; 95 % the interval of the figure, and of differences that of pairs: the same questions, one by one"]
        return lines + list(dict.fromkeys(note for sitting in self.sittings[0] for note in sitting.notes))

    def text(self) -> str:
        """The tables in plain text."""
        return text_tables(self.title, self.tables()) + "\n" + "\n".join(self.said()) + "\n"

    def html(self) -> str:
        """As one document without scripts; whatever rows hold and models have written is escaped."""
        parts = [f"<h1>{escape(self.title)}</h1>", html_tables(self.tables()), *(f"<p>{escape(line)}</p>" for line in self.said())]
        for number, sitting in enumerate(self.sittings[0]):
            beside = dict(zip(self.models, (of_model[number] for of_model in self.sittings), strict=True))
            parts.append(f"<h2>{escape(f'{sitting.task}, {sitting.prompt}')}</h2>")
            if sitting.outcomes[0].choices:
                parts.append(f'<div class="plots">{diagram(beside)}</div>')
            if sitting.before:
                parts.append(f'<details><summary>before each question</summary><div class="text">{escape(sitting.before)}</div></details>')
            parts += [_wrong(name, one) for name, one in beside.items() if one.right]
        return document(self.title, "\n".join(parts), style="td.figure { white-space: nowrap } body { max-width: 75rem }")

    def plain(self) -> dict[str, Any]:
        """The figures as plain data."""
        found: dict[str, Any] = {}
        for task, numbers in self.tasks().items():
            wordings = {}
            for number in numbers:
                of_models = {
                    model: {name: measure.estimate().plain() for name, measure in of_model[number].measures.items()}
                    for model, of_model in zip(self.models, self.sittings, strict=True)
                }
                less = {name: one.plain() for name, one in self.differences(number).items()}
                wordings[self._prompt(number)] = {"models": of_models} | ({"difference": less} if less else {})
            found[task] = {"prompts": wordings}
            if len(numbers) > 1:
                found[task]["spread"] = {
                    model: {name: vars(Spread.of([of_model[number].measures[name].value for number in numbers]))
                            for name in of_model[numbers[0]].measures}
                    for model, of_model in zip(self.models, self.sittings, strict=True)
                }  # fmt: skip
        return {"title": self.title, "models": list(self.models), "tasks": found}

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every answer of every model."""
        for model, sittings in zip(self.models, self.sittings, strict=True):
            for sitting in sittings:
                for one in sitting.outcomes:
                    yield {"model": model, "task": sitting.task, "prompt": sitting.prompt, **one.plain()}

    def leave(self, folder: Path) -> None:
        """Writes assessment.txt, assessment.html, results.json and answers.jsonl."""
        write_text(folder / "assessment.txt", self.text())
        write_text(folder / "assessment.html", self.html())
        write_json(folder / "results.json", self.plain())
        write_text(folder / "answers.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines()))


def diagram(sittings: Mapping[str, Sitting]) -> str:
    """How often models are right beside how sure they are, in tenths; the line is where the two are the same."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], ":", color="#5b6570", linewidth=0.8)
        for (name, sitting), colour in zip(sittings.items(), COLOURS, strict=False):
            tenths = reliability(sitting.outcomes)
            sizes = [8 + 80 * one["examples"] / len(sitting.outcomes) for one in tenths]
            axes.plot([one["mean_score"] for one in tenths], [one["share"] for one in tenths], "-", color=colour, linewidth=1, label=name)
            axes.scatter([one["mean_score"] for one in tenths], [one["share"] for one in tenths], sizes, color=colour)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel("share that is right")

    return plot("Sure and right", draw, "probability of the likeliest choice; dots by their questions")


def _wrong(name: str, sitting: Sitting) -> str:
    """Every wrong answer of a model, to be opened."""
    rows = [
        (escape(one.id), _block(one.asked), _block(" | ".join(one.expected)), _block(one.said) + _more(one)) for one in sitting.wrong
    ]
    head = f"{name}: {len(rows)} of {len(sitting.outcomes)} wrong"
    if not rows:
        return f"<p>{escape(head)}</p>"
    return f"<details><summary>{escape(head)}</summary>{table(('row', 'asked', 'expected', 'said'), rows)}</details>"


def _block(text: str) -> str:
    return f'<div class="text">{escape(text)}</div>'


def _more(one: Outcome) -> str:
    """What else there is of an answer: how choices were weighed, or all that was written."""
    if one.choices:
        rows = [(f"{choice.probability:.1%}", f"{choice.logprob:.2f}", escape(choice.text)) for choice in one.choices]
        return table(("p", "log p", "choice"), rows, (0, 1))
    return f'<div class="text dim">{escape(one.written)}</div>' if one.written and one.written != one.said else ""
