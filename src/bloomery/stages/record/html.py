"""The Data page: one HTML file that asks for nothing from elsewhere. Texts are escaped, and the page's policy lets no other script run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape

from bloomery.core.units import human_bytes
from bloomery.stages import look
from bloomery.stages.record.histogram import Histogram
from bloomery.stages.record.inert import inert, one_line
from bloomery.stages.record.page import Page, share
from bloomery.stages.record.pairs import Leak, Pair
from bloomery.stages.record.pieces import Piece, differences, excerpt
from bloomery.stages.record.record import Found
from bloomery.stages.record.rules import Rule
from bloomery.stages.record.script import SCRIPT, STYLE

CHARS = 1500  # of a document


def html_page(page: Page) -> str:
    """A whole HTML document."""
    sections = [
        ("funnel", "Funnel", _funnel(page.rules)),
        ("thresholds", "What if", _measures(page.histograms)),
        ("dropped", "Dropped", _dropped(page)),
        ("pairs", "Duplicates", _pairs(*page.pairs)),
        ("leaks", "Test items met", _leaks(page.leaks, page.leak_total, page.leaking)),
        ("kept", "Kept", "".join(_article(found) for found in page.kept)),
    ]
    shown = [(id, heading, body) for id, heading, body in sections if body]
    links = "".join(f'<a href="#{id}">{heading}</a>' for id, heading, _ in shown)
    nav = (
        f'<nav aria-label="Sections">{links}<label>Search the samples <input type="search" id="search" '
        f'aria-describedby="found" placeholder="press /"></label> <output id="found" class="dim"></output></nav>'
    )
    body = "\n".join([
        '<a class="skip" href="#funnel">Skip to the funnel</a>', f"<h1>{look.code(one_line(page.title))}</h1>", look.cards(page.figures), nav, "<main>",
        *(f'<section><h2 id="{id}">{heading}</h2>{body}</section>' for id, heading, body in shown),
        f'<p class="dim">Documents were picked at random (seed {page.seed}). Keys: / searches, j and k go from document to document.</p>', "</main>",
        f'<script type="application/json" id="measures">{as_data([_id(h, i) for i, h in enumerate(page.histograms)])}</script>',
        f"<script>{SCRIPT}</script>",
    ])  # fmt: skip
    policy = f"default-src 'none'; script-src '{_hash(SCRIPT)}'; style-src '{_hash(look.STYLE + STYLE)}'; base-uri 'none'; form-action 'none'"
    return look.document(page.title, body, style=STYLE, policy=policy)


def as_data(plain: object) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or begin another."""
    text = json.dumps(plain, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _funnel(rules: Sequence[Rule]) -> str:
    if not rules:
        return "<p>No filter stood here.</p>"
    whole = max(1, rules[0].flow.documents_in)
    rows = []
    for rule in rules:
        flow = rule.flow
        stays, goes = 1000 * flow.documents_out / whole, 1000 * rule.dropped / whole
        bar = (
            f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="{share(flow.documents_out, whole)} of all are left">'
            f'<rect class="went" width="1000" height="10"/><rect class="stays" width="{stays:.2f}" height="10"/>'
            f'<rect class="goes" x="{stays:.2f}" width="{max(goes, 1.5 if rule.dropped else 0):.2f}" height="10"/></svg>'
        )
        about = "".join(f'<div class="dim">{escape(line)}</div>' for line in (rule.sentence, "; ".join(rule.bounds), rule.source) if line)
        rows.append((
            f"{look.code(one_line(flow.filter))}{about}", bar, f"{flow.documents_in:,}", f"{rule.dropped:,}", share(rule.dropped, flow.documents_in),
            human_bytes(flow.bytes_in - flow.bytes_out), f"{flow.rewritten:,}",
        ))  # fmt: skip
    head = ("filter", "left of all that were read", "came", "dropped", "share", "bytes less", "rewritten")
    return f'<div class="wrap funnel">{look.table(head, rows, figures=(2, 3, 4, 5, 6))}</div>'


def _id(histogram: Histogram, number: int) -> dict[str, object]:
    return {"id": f"measure-{number}", **histogram.plain()}


def _measures(histograms: Sequence[Histogram]) -> str:
    if not histograms:
        return ""
    told = (
        "<p>What would pass each filter if a threshold were another one. What its other rules drop stays dropped; what later filters would say of "
        "documents that they never saw is not known.</p>"
    )
    return told + '<div class="measures">' + "".join(_measure(h, i) for i, h in enumerate(histograms)) + "</div>"


def _measure(histogram: Histogram, number: int) -> str:
    bars, n = histogram.bars(), len(histogram.edges)
    top = max(1, *bars)
    drawn = "".join(
        f'<rect class="stays" x="{i + 0.06:g}" width=".88" y="{100 - height:.2f}" height="{height:.2f}"><title>{escape(_bin(histogram, i))}: {bar:,}</title></rect>'
        for i, bar in enumerate(bars)
        for height in [100 * bar / top if not bar else max(1.0, 100 * bar / top)]
    )  # fmt: skip
    name = escape(one_line(histogram.measure))
    slide = '<label class="slide"><span>{0}</span><input type="range" min="0" max="{1}" value="{2}" aria-label="{3}, {0}"><output></output></label>'
    return (
        f'<figure id="measure-{number}"><figcaption>{name}</figcaption>'
        f'<svg viewBox="0 0 {n + 1} 100" preserveAspectRatio="none" role="img" aria-label="how {name} is spread">{drawn}</svg>'
        f'<div class="axis"><span>{histogram.edges[0]:.4g}</span><span>{histogram.edges[n // 2]:.4g}</span><span>{histogram.edges[-1]:.4g}</span></div>'
        f"{slide.format('at least', n, 0, name)}{slide.format('at most', n, n, name)}"
        f'<p><b></b> of {histogram.reached:,} would pass, <span></span></p><button type="button">as it is now</button></figure>'
    )


def _bin(histogram: Histogram, place: int) -> str:
    edges = histogram.edges
    if place == 0:
        return f"below {edges[0]:.4g}"
    return f"from {edges[-1]:.4g}" if place == len(edges) else f"{edges[place - 1]:.4g} to {edges[place]:.4g}"


def _dropped(page: Page) -> str:
    groups = []
    for place, (filter, (found, total)) in enumerate(page.dropped.items()):
        articles = "".join(map(_article, found))
        summary = f"{look.code(one_line(filter))}: {len(found)} of {total:,} dropped documents"
        groups.append(f'<details class="group"{" open" if place == 0 else ""}><summary>{summary}</summary>{articles}</details>')
    return "".join(groups)


def _article(found: Found) -> str:
    drop = found.drop
    head = ""
    if drop is not None:
        head = f'<b class="bad">{escape(one_line(drop.filter))}</b><span>{escape(one_line(drop.reason))}{escape(measured(drop.value, drop.threshold))}</span>'
    return (
        f'<article tabindex="0"><header>{head}{look.code(one_line(found.id))}</header>'
        f'<div class="text" dir="auto">{marked(excerpt(inert(found.text), drop.spans if drop else (), CHARS))}</div></article>'
    )


def _pairs(pairs: Sequence[Pair], total: int) -> str:
    if not pairs:
        return ""
    articles = []
    for pair in pairs:
        drop = pair.dropped.drop
        told = f"{one_line(drop.reason)}{measured(drop.value, drop.threshold)}" if drop else ""
        if pair.twin is None:
            sides = [excerpt(inert(pair.dropped.text), chars=CHARS), [Piece("the text of the other one is not here", "gap")]]
        else:
            sides = list(differences(inert(pair.dropped.text), inert(pair.twin.text), CHARS))
        heads = (f"dropped {look.code(one_line(pair.dropped.id))}", f"{pair.twin.where if pair.twin else 'elsewhere'} {look.code(one_line(pair.of))}")
        cells = "".join(
            f'<div><p class="dim">{head}</p><div class="text" dir="auto">{marked(side)}</div></div>' for head, side in zip(heads, sides, strict=True)
        )
        articles.append(f'<article tabindex="0"><header><span>{escape(told)}</span></header><div class="two">{cells}</div></article>')
    return f"<p>{len(pairs)} of {total:,} repetitions; words that the other one lacks are marked.</p>" + "".join(articles)


def _leaks(leaks: Sequence[Leak], total: int, leaking: Sequence[Found]) -> str:
    if not leaks:
        return ""
    rows = [
        (escape(one_line(leak.item)), f"{leak.dropped:,}", f"{leak.rewritten:,}", " ".join(look.code(one_line(id, 60)) for id in leak.ids)) for leak in leaks
    ]  # fmt: skip
    table = look.table(("test item", "dropped", "rewritten", "documents"), rows, figures=(1, 2))
    return f'<p>{len(leaks)} of {total:,}.</p><div class="wrap">{table}</div>' + "".join(map(_article, leaking))


def measured(value: float | None, threshold: float | None) -> str:
    """What was measured and what it was compared with, as an afterword; empty where no number was."""
    if value is None:
        return ""
    return f" ({value:.4g})" if threshold is None else f" ({value:.4g} against {threshold:.4g})"


def marked(pieces: Sequence[Piece]) -> str:
    """Pieces of a text as HTML."""
    tags = {"": ("", ""), "mark": ("<mark>", "</mark>"), "gap": ('<span class="gap">', "</span>")}
    return "".join(f"{tags[piece.kind][0]}{escape(piece.text)}{tags[piece.kind][1]}" for piece in pieces)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
