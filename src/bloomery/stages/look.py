"""What our HTML pages share: one style, light and dark, and a few building blocks. No page asks for anything from elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

COLOURS = ("#1f6feb", "#d9730d", "#2e9e5b", "#8b5cf6")
"""Of curves, one after the other."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --paper: #fff; --line: #d8dde3; --dim: #5b6570; --soft: #f5f7f9; --bad: #b3261e;
  --main: #1f6feb; --mark: #ffe08a }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6ea; --paper: #14171a; --line: #333a41; --dim: #97a1ab; --soft: #1c2024;
  --bad: #ff8a80; --main: #6ea8fe; --mark: #6b5412 } .plots svg { background: #fff; border-radius: .5rem } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem }
table { border-collapse: collapse; margin: .8rem 0 } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid var(--line) } td.figure, th.figure { font-variant-numeric: tabular-nums; text-align: right }
.cards { display: flex; flex-wrap: wrap; gap: .8rem } .card { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem }
.card b { display: block; font-size: 1.35rem } .card span { color: var(--dim); font-size: .85rem }
.plots { display: flex; flex-wrap: wrap; gap: .5rem } .plots svg { max-width: 100%; height: auto }
code, pre { font: 13px/1.45 ui-monospace, monospace } .text { white-space: pre-wrap } summary { cursor: pointer; color: var(--dim) }
.bad { color: var(--bad) } .dim { color: var(--dim) }
"""


def document(title: str, body: str, *, style: str = "", policy: str = "") -> str:
    """A whole HTML document.

    Args:
        title: plain text.
        body: HTML.
        style: rules beside those of every page.
        policy: the content security policy, if it needs one.
    """
    meta = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">' if policy else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{meta}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def cards(figures: Sequence[tuple[str, str]]) -> str:
    """Figures in boxes, each with what it is."""
    return '<div class="cards">' + "".join(f'<div class="card"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in figures) + "</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], figures: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; the columns in `figures` hold numbers."""

    def cell(tag: str, place: int, content: str) -> str:
        return f'<{tag} class="figure">{content}</{tag}>' if place in figures else f"<{tag}>{content}</{tag}>"

    lines = [("th", head), *(("td", row) for row in rows)]
    return "<table>" + "".join("<tr>" + "".join(cell(tag, i, c) for i, c in enumerate(cells)) + "</tr>" for tag, cells in lines) + "</table>"


def text_table(rows: Sequence[Sequence[str]], figures: Sequence[int] = ()) -> list[str]:
    """The lines of a table in plain text; the columns in `figures` hold numbers, which stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def cell(place: int, content: str) -> str:
        return content.rjust(widths[place]) if place in figures else content.ljust(widths[place])

    return ["  ".join(cell(i, content) for i, content in enumerate(row)).rstrip() for row in rows]


def text_page(title: str, rows: Sequence[Sequence[str]], figures: Sequence[int], said: Iterable[str]) -> str:
    """A page of one table in plain text, and of sentences below it."""
    return "\n".join([title, "=" * len(title), *text_table(rows, figures), *said]) + "\n"


def text_tables(title: str, tables: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> str:
    """A page of tables in plain text: of each its name, and its rows, the head first; all columns but the first hold numbers."""
    lines = [title, "=" * len(title)]
    for name, rows in tables:
        lines += ["", name, *text_table(rows, range(1, len(rows[0])))]
    return "\n".join(lines) + "\n"


def html_tables(tables: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> str:
    """The same tables as HTML, each behind its name."""
    parts = []
    for name, rows in tables:
        head, *body = [tuple(map(escape, row)) for row in rows]
        parts.append(f"<h2>{escape(name)}</h2>" + table(head, body, range(1, len(head))))
    return "".join(parts)


def code(text: str) -> str:
    """A name, as it is written."""
    return f"<code>{escape(text)}</code>"


def plot(title: str, draw: Callable[[Any], None], x_label: str = "step") -> str:
    """One plot as SVG: the same figures give the same bytes.

    Args:
        title: above it.
        draw: puts the curves on matplotlib's axes.
        x_label: below it.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "bloomery", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(4.6, 2.7), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(title, loc="left")
        axes.set_xlabel(x_label)
        if not axes.images:
            axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
