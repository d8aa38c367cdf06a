"""The page as plain text, for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bloomery.stages.forecast import HEAD
from bloomery.stages.look import text_table
from bloomery.stages.report.page import Curve, Examination, Page, Training

BLOCKS = "▁▂▃▄▅▆▇█"
PLOT_COLUMNS = 60
WIDTH = 110
WRONG_SHOWN = 5


def text_page(page: Page) -> str:
    """The page in lines of about a hundred columns."""
    lines = [page.title, "=" * len(page.title), ""]
    for training in page.trainings:
        lines += [*_training(training), ""]
    if page.examinations:
        lines += [*_examinations(page.examinations), ""]
    lines.append("artifacts, inputs first")
    lines += _table([(reference, size, seconds) for reference, size, seconds in page.made])
    return "\n".join(lines) + "\n"


def sparkline(curve: Curve, columns: int = PLOT_COLUMNS) -> str:
    """A curve in one line of block characters: the mean of each stretch, between its least and its greatest."""
    if not curve.values:
        return ""
    n = min(columns, len(curve.values))
    edges = [len(curve.values) * i // n for i in range(n + 1)]
    means = [sum(curve.values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)


def _training(training: Training) -> list[str]:
    lines = [f"training {training.reference}", "  " + "   ".join(f"{name} {value}" for name, value in training.figures.items())]
    lines.append(f"  loss {sparkline(training.loss)} {training.loss.values[0]:.3f} → {training.loss.values[-1]:.3f}")
    for corpus, curve in training.bits.items():
        points = "  ".join(f"{step}: {value:.4f}" for step, value in zip(curve.steps, curve.values, strict=True))
        lines.append(f"  bits per byte of {corpus} (held out), by step: {points}")
    if training.plan:
        lines += _table([HEAD, *training.plan])
    last = max((step for step, _, _ in training.samples), default=0)
    for step, prompt, answer in training.samples:
        if step == last:
            lines.append(_shortened(f"  {prompt!r} → {answer!r}"))
    return lines


def _examinations(examinations: Sequence[Examination]) -> list[str]:
    lines = ["held-out questions answered exactly"]
    kinds = sorted({kind for e in examinations for kind in e.kinds})
    rows = [("", *(e.name for e in examinations))]
    for kind in kinds:
        cells = (f"{e.kinds[kind][0]:.1%} of {e.kinds[kind][1]}" if kind in e.kinds else "" for e in examinations)
        rows.append((kind or "(all)", *cells))
    rows.append(("all", *(f"{e.exact:.1%} ± {e.standard_error:.1%} of {e.asked}" for e in examinations)))
    lines += _table(rows)
    if wrong := examinations[-1].wrong:
        lines.append(f"wrong answers of {examinations[-1].name}")
        lines += [_shortened(f"  {w['question'][-60:]!r}: {w['answer']!r}, expected {w['expected']!r}") for w in wrong[:WRONG_SHOWN]]
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    return ["  " + line for line in text_table(rows)]


def _shortened(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
