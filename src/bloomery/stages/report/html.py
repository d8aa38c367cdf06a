"""The page as HTML: one file, no scripts, plots as SVG inside. All text from models and documents is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from bloomery.stages.forecast import HEAD
from bloomery.stages.look import COLOURS, cards, code, document, plot, table
from bloomery.stages.report.layers import heat_map
from bloomery.stages.report.page import Examination, Page, Training


def html_page(page: Page) -> str:
    """A whole HTML document."""
    parts = [f"<h1>{escape(page.title)}</h1>", _headline(page)]
    if page.trainings:
        parts += ["<h2>Learning curves</h2>", _plots(page.trainings)]
    if page.examinations:
        parts += ["<h2>Held-out questions answered exactly</h2>", _kinds(page.examinations), _wrong(page.examinations[-1])]
    for training in page.trainings:
        parts.append(_training(training))
    made = [(code(reference), escape(size), escape(seconds)) for reference, size, seconds in page.made]
    parts += ["<h2>Artifacts, inputs first</h2>", table(("artifact", "size", "time"), made)]
    body = "\n".join(parts)
    return document(page.title, body)


def _headline(page: Page) -> str:
    figures = [(f"{e.exact:.1%}", f"{e.name}: {e.asked} held-out questions, ± {e.standard_error:.1%}") for e in page.examinations]
    figures += [(f"{c.values[-1]:.3f}", f"bits per byte of {corpus} after {t.name}") for t in page.trainings for corpus, c in t.bits.items()]
    figures += [(t.figures["tokens"], f"tokens in {t.name}, {t.figures['time']}") for t in page.trainings]
    return cards(figures)


def _plots(trainings: Sequence[Training]) -> str:
    def curves(axes: Any, choose: Callable[[Training], dict[str, Any]], marker: str = "") -> None:
        for training, colour in zip(trainings, COLOURS * len(trainings), strict=False):
            for style, (label, curve) in zip(("-", "--", ":", "-.") * 8, choose(training).items(), strict=False):
                axes.plot(curve.steps, curve.values, style, color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)

    return '<div class="plots">' + "".join([
        plot("loss", lambda axes: curves(axes, lambda t: {t.name: t.loss})),
        plot("held-out bits per byte", lambda axes: curves(axes, lambda t: {f"{t.name}: {c}": v for c, v in t.bits.items()}, "o")),
        plot("learning rate", lambda axes: curves(axes, lambda t: {t.name: t.rate})),
        plot("tokens per second", lambda axes: curves(axes, lambda t: {t.name: t.speed})),
    ]) + "</div>"  # fmt: skip


def _kinds(examinations: Sequence[Examination]) -> str:
    kinds = sorted({kind for e in examinations for kind in e.kinds})

    def cell(share: float, asked: int) -> str:
        return f"{share:.1%} <span class=dim>of {asked}</span>"

    rows = [(escape(kind or "(all)"), *(cell(*e.kinds[kind]) if kind in e.kinds else "" for e in examinations)) for kind in kinds]
    rows.append(("<b>all</b>", *(f"<b>{cell(e.exact, e.asked)}</b>" for e in examinations)))
    return table(("kind of question", *(escape(e.name) for e in examinations)), rows)


def _wrong(examination: Examination) -> str:
    if not examination.wrong:
        return "<p>No wrong answer.</p>"
    rows = [
        (f'<div class="text">{escape(w["question"])}</div>', escape(w["expected"]), f'<span class="bad">{escape(w["answer"])}</span>')
        for w in examination.wrong
    ]
    wrong = table(("question", "expected", "answer"), rows)
    return f"<details><summary>wrong answers of {escape(examination.name)}</summary>{wrong}</details>"


def _training(training: Training) -> str:
    figures = " · ".join(f"{escape(name)} <b>{escape(value)}</b>" for name, value in training.figures.items())
    samples = [(str(step), escape(prompt), f'<div class="text">{escape(answer)}</div>') for step, prompt, answer in training.samples]
    settings = [(code(name), code(value)) for name, value in training.settings.items()]
    plan = [tuple(map(escape, row)) for row in training.plan]
    maps = "".join(heat_map(kind, grid) for kind, grid in training.layers.items())
    return (
        f"<h2>Training {code(training.reference)}</h2><p>{figures}</p>"
        + (f"<h3>Planned and measured</h3>{table(HEAD, plan, (1, 2, 3))}" if plan else "")
        + (f'<h3>Inside its layers</h3><div class="plots">{maps}</div>' if maps else "")
        + (f"<h3>What it said</h3>{table(('step', 'prompt', 'answer'), samples)}" if samples else "")
        + f"<details><summary>settings</summary>{table(('field', 'value'), settings)}</details>"
    )
