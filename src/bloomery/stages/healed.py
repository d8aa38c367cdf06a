"""What a run tells of its bad steps: a page, the same as text, and as data. The beginnings of documents stand there as text and nothing else.

    healing.json    what the ladder knows at the end, all events among it
    healing.md      a table of them, and the documents
    healing.html    the same, with the losses, gradients and updates that it went by
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bloomery.data import Source
from bloomery.stages.look import code, document, plot, table
from bloomery.store import write_json, write_text
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.healing import Ledger

SHOWN_TOKENS = 48  # of a document
HEAD = ("step", "why", "what was done", "loss", "norm of the gradient", "update", "documents")


def in_summary(known: Ledger) -> dict[str, Any]:
    """What a training's manifest says of it: what happened, and from which step on how many rows were passed over; nothing if all was well."""
    if not known.events:
        return {}
    rungs = [event["rung"] for event in known.events]
    return {"healing": {"bad_steps": len(rungs), **{rung: rungs.count(rung) for rung in dict.fromkeys(rungs)}, "jumps": list(known.jumps)}}


def write_healing(folder: Path, title: str, known: Ledger, source: Source, tokenizer: Tokenizer) -> None:
    """Writes the page.

    Args:
        folder: the run's.
        title: what was trained.
        known: what the ladder knows.
        source: of the rows as they were packed, before a task.
        tokenizer: which makes their tokens text again.
    """
    write_json(folder / "healing.json", known.plain())
    texts = [(event, found, _beginning(found, source, tokenizer)) for event in known.events for found in event["documents"]]
    write_text(folder / "healing.md", markdown(title, known, texts))
    write_text(folder / "healing.html", html(title, known, texts))


Texts = Sequence[tuple[Mapping[str, Any], Mapping[str, Any], str]]
"""(event, document, its beginning)."""


def markdown(title: str, known: Ledger, texts: Texts) -> str:
    """The page in Markdown; what documents say stands in code, in one line, so that it cannot become anything else."""
    rows = [HEAD, ("---",) * len(HEAD), *map(_cells, known.events)]
    lines = [f"# Bad steps of {title}", "", *("| " + " | ".join(row) + " |" for row in rows), "", "## Documents that stand out", ""]
    for event, found, text in texts:
        lines.append(f"- step {event['step']}, row {found['row']}: {_inert(found['source'])} {_inert(found['id'])}: {_inert(text)}")
    return "\n".join(lines if texts else lines[:-2]) + "\n"


def html(title: str, known: Ledger, texts: Texts) -> str:
    """The page in HTML."""
    events = table(HEAD, [tuple(map(escape, _cells(event))) for event in known.events], (3, 4, 5, 6))

    def draw(name: str, usual: Sequence[float]) -> str:
        def curves(axes: Any) -> None:
            steps = [event["step"] for event in known.events]
            axes.plot(range(1 - len(usual), 1), usual, color="#5b6570", linewidth=1, label="the last healthy steps")
            values = [event[name] if isinstance(event[name], float) else float("nan") for event in known.events]
            axes.plot(range(1, len(steps) + 1), values, "x", color="#b3261e", label="bad steps, one after the other")
            axes.set_yscale("symlog" if min([*usual, 1.0]) <= 0 else "log")

        return plot(name.replace("_", " "), curves, "")

    plots = "".join([draw("loss", known.losses), draw("grad_norm", known.grad_norms), draw("update", known.updates)])
    found = [
        (str(event["step"]), str(one["row"]), code(str(one["source"])), code(str(one["id"])), f'<div class="text">{escape(text)}</div>')
        for event, one, text in texts
    ]
    documents = f"<h2>Documents that stand out</h2>{table(('step', 'row', 'corpus', 'document', 'begins'), found)}" if found else ""
    body = f'<h1>Bad steps of {code(title)}</h1>{events}<div class="plots">{plots}</div>{documents}'
    return document(f"Bad steps of {title}", body, policy="default-src 'none'; style-src 'unsafe-inline'")


def _inert(text: object) -> str:
    """As code in one line, whatever it says."""
    return "`" + ascii(str(text))[1:-1].replace("`", "\\x60") + "`"


def _cells(event: Mapping[str, Any]) -> tuple[str, ...]:
    done = str(event["rung"]) + {"lower": f" to {event['rate']:.2g}", "roll back": f" to step {event['back_to']}"}.get(event["rung"], "")
    names = dict.fromkeys(found["id"] for found in event["documents"])
    return str(event["step"]), event["cause"], done, *(_number(event[name]) for name in ("loss", "grad_norm", "update")), str(len(names))


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float | int) else str(value)


def _beginning(found: Mapping[str, Any], source: Source, tokenizer: Tokenizer) -> str:
    """How the piece of a document in a row begins."""
    tokens = source.rows(found["row"], 1).tokens[0, found["place"] : found["place"] + min(SHOWN_TOKENS, found["stop"] - found["start"])]
    return tokenizer.decode(tokens.tolist())
