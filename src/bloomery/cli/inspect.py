"""How the record of a prepared corpus looks in the terminal. Texts are printed as they are, with a visible sign for each control character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bloomery.core.units import human_bytes
from bloomery.stages.record import (
    Found,
    Judgement,
    Piece,
    Record,
    card,
    condition,
    differences,
    excerpt,
    figures,
    html_page,
    inert,
    leaks,
    one_line,
    page_of,
    pairs,
    share,
)  # fmt: skip
from bloomery.stages.record import story as story_of
from bloomery.stages.record import what_if as try_out
from bloomery.stages.record.record import KINDS, PLACES, containing
from bloomery.stages.record.what_if import Bounds, filter_of
from bloomery.store import Artifact, write_text

console = Console(highlight=False)
STYLES = {"": "", "mark": "black on yellow", "gap": "dim"}
ACTIONS = {"kept": "green", "rewrite": "yellow", "drop": "red", "not reached": "dim"}
FIGURES = 76  # columns that the funnel takes beside its bars
LEAKS_SHOWN = 40


def inspect_corpus(
    artifact: Artifact, *, filter: str | None, reason: str | None, search: str | None, n: int, seed: int, id: str | None, what_if: str | None,
    show_pairs: bool, show_leaks: bool, html: Path | None, card_path: Path | None,
) -> None:  # fmt: skip
    """Prints what was asked for, or writes it; the funnel and some dropped documents where nothing was."""
    record = Record(artifact)
    if html is not None:
        _write(html, html_page(page_of(record, n, seed)), "open it in a browser")
    if card_path is not None:
        _write(card_path, card(record, seed=seed), "as README.md beside the shards it is what the hub shows")
    if id is not None:
        print_story(record, id)
    if what_if is not None:
        print_what_if(record, *condition(record, what_if), n)
    if show_pairs:
        print_pairs(record, n, seed, filter)
    if show_leaks:
        print_leaks(record)
    if not any((html, card_path, id, what_if, show_pairs, show_leaks)):
        if filter is None and reason is None and search is None:
            print_funnel(record)
        print_samples(record, n, seed, filter, reason, search)


def print_funnel(record: Record) -> None:
    """A bar per filter: what is left of all that was read, and what it took."""
    console.print(Text(record.artifact.reference, "bold"))
    console.print(Text("; ".join(f"{figure} {what}" for figure, what in figures(record))))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("filter", "left of all"):
        table.add_column(heading, no_wrap=True)
    for heading in ("came", "dropped", "share", "bytes less", "rewritten"):
        table.add_column(heading, justify="right", no_wrap=True)
    whole, width = max(1, record.funnel[0].documents_in) if record.funnel else 1, min(30, max(4, console.width - FIGURES))
    for flow in record.funnel:
        gone = flow.documents_in - flow.documents_out
        left = round(width * flow.documents_out / whole)
        taken = min(width - left, max(round(width * gone / whole), int(gone > 0)))
        bar = Text.assemble(("█" * left, "blue"), ("█" * taken, "red"), ("░" * (width - left - taken), "dim"))
        table.add_row(
            _plain(flow.filter), bar, f"{flow.documents_in:,}", f"{gone:,}", share(gone, flow.documents_in),
            human_bytes(flow.bytes_in - flow.bytes_out), f"{flow.rewritten:,}",
        )  # fmt: skip
    console.print(table)


def print_samples(record: Record, n: int, seed: int, filter: str | None, reason: str | None, search: str | None) -> None:
    """Random dropped documents; with words to search for alone, those that were kept, too."""
    found, total = record.dropped(n, seed, filter=filter, reason=reason, search=search)
    _heading(f"{len(found)} of {total:,} dropped documents, at random (seed {seed})" if total else "no dropped document fits")
    for one in found:
        print_document(one, search)
    if search is None or filter is not None or reason is not None:
        return
    for kind in KINDS[:2]:
        found, total = record.sample(kind, n, seed, lambda t: containing(t["text"], search), ["text"])
        _heading(f"{len(found)} of {total:,} documents {PLACES[kind]}" if total else f"no document that was {PLACES[kind]} fits")
        for one in found:
            print_document(one, search)


def print_document(found: Found, search: str | None = None, head: Text | None = None) -> None:
    """A document in a frame; above it stands why it went, if nothing else is to."""
    head = head or (_said(found.drop) if found.drop else Text(found.where, "green"))
    text = inert(found.text)
    spans = _places(text, search) if search else found.spans
    console.print(Panel(_text(excerpt(text, spans)), title=head, subtitle=_plain(found.id), title_align="left", subtitle_align="right"))


def print_story(record: Record, id: str) -> None:
    """One document from the reader to where it is now."""
    told = story_of(record, id)
    console.print(_plain(told.id, "bold"))
    for filter, what, said in told.steps:
        line = Text.assemble("  ", (what.ljust(12), ACTIONS[what]), _plain(filter))
        if said is not None:
            line.append_text(Text(": ").append_text(_why(said)))
        console.print(line)
        measured = {name.removeprefix(f"{filter}."): value for name, value in told.measures.items() if filter_of(name) == filter}
        if measured:
            values = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in measured.items())
            console.print(Padding(_plain(values, "dim"), (0, 0, 0, 14)))
    if told.found is None:
        console.print(Text("its text is not on record"))
    else:
        console.print(Text(f"{told.found.where}, in {told.found.place.path.name}"))
    if told.repeats:
        console.print(_plain(f"dropped as repetitions of it: {', '.join(told.repeats)}"))
    if told.found is not None:
        print_document(told.found)


def print_what_if(record: Record, measure: str, bounds: Bounds, n: int) -> None:
    """What another threshold would change, and documents at the margin."""
    found = try_out(record, measure, bounds, n)
    _heading(f"{one_line(measure)}: {_bounds(found.before)} → {_bounds(found.after)}")
    then = found.dropped + found.lost - found.released
    for when, dropped in (("now", found.dropped), ("then", then)):
        share_dropped = f"{share(dropped, found.reached):>7} of {found.reached:,}"
        console.print(Text(f"  dropped by {one_line(found.filter)} {when:<4} {dropped:>12,}  {share_dropped}"))
    if found.released:
        console.print(Text(f"  {found.released:,} more would pass; what later filters would say of them is not known", "green"))
    if found.lost:
        rest = f"{found.lost_kept:,} of them are in the corpus now, later filters took the others"
        console.print(Text(f"  {found.lost:,} more would go; {rest}", "red"))
    if not found.released and not found.lost:
        console.print(Text("  nothing would change"))
    for value, one in found.examples:
        head = Text(f"{one_line(measure)} {value:.4g}, {one.where}" + (f" by {one.filter}" if one.filter else ""))
        print_document(one, head=head)


def print_pairs(record: Record, n: int, seed: int, filter: str | None) -> None:
    """Repetitions beside what they repeat; words that the other one lacks are marked."""
    found, total = pairs(record, n, seed, filter)
    _heading(f"{len(found)} of {total:,} repetitions, at random (seed {seed})" if total else "no repetition is on record")
    for pair in found:
        if pair.twin is None:
            sides: Sequence[list[Piece]] = (excerpt(inert(pair.dropped.text)), [Piece("its text is not here", "gap")])
        else:
            sides = differences(inert(pair.dropped.text), inert(pair.twin.text), 600)
        where = pair.twin.where if pair.twin else "elsewhere"
        names = (f"dropped {pair.dropped.id}", f"{where} {pair.of}")
        width = max(20, (console.width - 2) // 2)
        panels = [Panel(_text(side), title=_plain(name), title_align="left", width=width) for side, name in zip(sides, names, strict=True)]
        console.print(Group(_said(pair.dropped.drop) if pair.dropped.drop else Text(), Columns(panels, padding=(0, 1))))


def print_leaks(record: Record) -> None:
    """The test items that were met, and in which documents."""
    found = leaks(record)
    if not found:
        _heading("no test item was met in any document, or no filter looked for them")
        return
    _heading(f"{len(found):,} test items were met")
    for leak in found[:LEAKS_SHOWN]:
        console.print(Text.assemble((f"{leak.dropped:>6,} dropped {leak.rewritten:>6,} rewritten  ", "red"), _plain(leak.item)))
        console.print(Padding(_plain(", ".join(leak.ids), "dim"), (0, 0, 0, 10)))
    if len(found) > LEAKS_SHOWN:
        console.print(Text(f"… and {len(found) - LEAKS_SHOWN:,} more"))


def _heading(text: str) -> None:
    console.print(Text(text, "bold"))


def _said(said: Judgement) -> Text:
    return Text.assemble(_plain(said.filter, "bold red"), ": ", _why(said))


def _why(said: Judgement) -> Text:
    """The reason, and the value against the threshold."""
    return _plain(said.reason).append(said.compared, "bold")


def _bounds(bounds: Bounds) -> str:
    low, high = bounds
    words = [f"at least {low:g}"] * (low is not None) + [f"at most {high:g}"] * (high is not None)
    return " and ".join(words) or "no bound"


def _places(text: str, words: str) -> list[tuple[int, int]]:
    """Where words stand in a text, in upper or lower case."""
    return [match.span() for match in re.finditer(re.escape(words), text, re.IGNORECASE)][:100]


def _text(pieces: Sequence[Piece]) -> Text:
    sign = "«{}»" if console.color_system is None else "{}"  # where nothing can be coloured
    return Text.assemble(*((sign.format(piece.text) if piece.kind == "mark" else piece.text, STYLES[piece.kind]) for piece in pieces))


def _plain(text: str, style: str = "") -> Text:
    return Text(one_line(text), style)


def _write(path: Path, text: str, next_step: str) -> None:
    write_text(path, text)
    console.print(Text(f"{path} ({human_bytes(len(text.encode()))}): {next_step}", "green"))
