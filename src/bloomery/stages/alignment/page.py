"""The page of `Alignment`: a table of figures for all models, and for each what is to be read of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from bloomery.stages.alignment.probe import Figure, Finding, Shown
from bloomery.stages.look import document, html_tables, table, text_tables


@dataclass(frozen=True)
class Judged:
    """A model with all that was found of it.

    Attributes:
        name: of the training.
        findings: by the name of the probe.
        views: looks inside.
    """

    name: str
    findings: Mapping[str, Finding]
    views: Sequence[Shown]


@dataclass(frozen=True)
class Page:
    """All models beside each other."""

    title: str
    models: Sequence[Judged]

    def tables(self) -> list[tuple[str, list[tuple[str, ...]]]]:
        """Of each probe its figures: a row for each, a column for each model, and what has changed from the first to the last."""
        names, change = [model.name for model in self.models], len(self.models) > 1
        found: list[tuple[str, list[tuple[str, ...]]]] = []
        for probe in self.models[0].findings:
            of_models = [model.findings[probe].figures for model in self.models]
            figures = list(dict.fromkeys(name for figures in of_models for name in figures))
            rows: list[tuple[str, ...]] = [
                (name, *(str(figures[name]) if name in figures else "–" for figures in of_models),
                 *([changed(of_models[0].get(name), of_models[-1].get(name))] if change else []))
                for name in figures
            ]  # fmt: skip
            found.append((probe, [("", *names, *(["change"] if change else [])), *rows]))
        return found

    def text(self) -> str:
        """In plain text."""
        return text_tables(self.title, self.tables())

    def html(self) -> str:
        """As one document without scripts; whatever models have written is escaped."""
        parts = [f"<h1>{escape(self.title)}</h1>", html_tables(self.tables())]
        for model in self.models:
            parts.append(f"<h1>{escape(model.name)}</h1>")
            for probe, finding in model.findings.items():
                if len(finding.rows) > 1:
                    head, *rows = [tuple(f'<div class="text">{escape(cell)}</div>' for cell in row) for row in finding.rows]
                    parts.append(f"<details><summary>{escape(probe)}: to be read</summary>{table(head, rows)}</details>")
            parts += [f"<h2>{escape(view.title)}</h2>{view.html}" for view in model.views]
        return document(self.title, "\n".join(parts))

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {
            model.name: {
                "probes": {
                    probe: {
                        "figures": {name: {**vars(f), "value": number(f.value)} for name, f in finding.figures.items()},
                        "examples": [dict(zip(finding.rows[0], row, strict=True)) for row in finding.rows[1:]],
                    }
                    for probe, finding in model.findings.items()
                },
                "views": {view.title: view.plain for view in model.views},
            }
            for model in self.models
        }  # fmt: skip


def number(value: float) -> float | None:
    """NaN as what JSON has for it."""
    return None if math.isnan(value) else value


def changed(first: Figure | None, last: Figure | None) -> str:
    """The difference, with the standard error of two samples of their own: too large where both were asked the same."""
    if first is None or last is None or math.isnan(first.value) or math.isnan(last.value):
        return "–"
    difference, error = last.value - first.value, math.hypot(first.error, last.error)
    if first.unit == "%":
        return f"{100 * difference:+.1f}" + (f" ± {100 * error:.1f}" if error else "")
    return f"{difference:+.3f}" + (f" ± {error:.3f}" if error else "")
