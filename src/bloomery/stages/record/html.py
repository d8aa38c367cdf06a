"""The Data page: one HTML file that asks for nothing from elsewhere. Texts are escaped, and the page's policy lets no other script run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape

from bloomery.core.units import human_bytes
from bloomery.stages import look
from bloomery.stages.inert import inert, one_line
from bloomery.stages.record.histogram import Histogram
from bloomery.stages.record.page import Page, share
from bloomery.stages.record.pairs import Leak, Pair
from bloomery.stages.record.pieces import Piece, differences, excerpt
from bloomery.stages.record.record import Found, Judgement
from bloomery.stages.record.rules import Rule
from bloomery.stages.record.script import SCRIPT, STYLE

CHARS = 1500  # of a document


def html_page(page: Page) -> str:
    """A whole HTML document."""
    sections = [
        ("funnel", "Funnel", _funnel(page.rules)),
        ("thresholds", "What if", _measures(page.histograms)),
        ("dropped", "Dropped", _dropped(page)),
        ("pairs", "Duplicates", _pairs(page.pairs)),
        ("leaks", "Test items met", _leaks(page.leaks, page.leak_total, page.leaking)),
        ("kept", "Kept", "".join(_article(found) for found in page.kept)),
    ]
    shown = [(id, heading, body) for id, heading, body in sections if body]
    links = "".join(f'<a href="#{id}">{heading}</a>' for id, heading, _ in shown)
    search = '<label>Search the samples <input type="search" id="search" placeholder="press /" aria-describedby="found"></label>'
    data = as_data([{"id": f"measure-{i}", **histogram.plain()} for i, histogram in enumerate(page.histograms)])
    body = [
        '<a class="skip" href="#funnel">Skip to the funnel</a>', f"<h1>{escape(one_line(page.title))}</h1>", look.cards(page.figures),
        f'<nav aria-label="Sections">{links}{search}<output id="found" class="dim"></output></nav>', "<main>",
        *(f'<section><h2 id="{id}">{heading}</h2>{body}</section>' for id, heading, body in shown),
        f'<p class="dim">Documents were picked at random (seed {page.seed}). Keys: / searches, j and k go from document to document.</p>',
        f'</main>\n<script type="application/json" id="measures">{data}</script>\n<script>{SCRIPT}</script>',
    ]  # fmt: skip
    policy = f"default-src 'none'; script-src '{_hash(SCRIPT)}'; style-src '{_hash(look.STYLE + STYLE)}'; base-uri 'none'; form-action 'none'"
    return look.document(page.title, "\n".join(body), style=STYLE, policy=policy)


def as_data(plain: object) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or begin another."""
    text = json.dumps(plain, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _funnel(rules: Sequence[Rule]) -> str:
    if not rules:
        return "<p>No filter stood here.</p>"
    whole = max(1, rules[0].flow.documents_in)
    rows = [
        (
            _about(rule), _bar(rule, whole), f"{rule.flow.documents_in:,}", f"{rule.dropped:,}", share(rule.dropped, rule.flow.documents_in),
            human_bytes(rule.flow.bytes_in - rule.flow.bytes_out), f"{rule.flow.rewritten:,}",
        ) for rule in rules
    ]  # fmt: skip
    head = ("filter", "left of all that were read", "came", "dropped", "share", "bytes less", "rewritten")
    return f'<div class="wrap funnel">{look.table(head, rows, figures=(2, 3, 4, 5, 6))}</div>'


def _about(rule: Rule) -> str:
    """A filter's name, behind which its description unfolds."""
    lines = [rule.sentence, *rule.bounds, rule.source]
    about = "".join(f'<div class="dim">{escape(line)}</div>' for line in lines if line)
    name = look.code(one_line(rule.flow.filter))
    return f"<details><summary>{name}</summary>{about}</details>" if about else name


def _bar(rule: Rule, whole: int) -> str:
    """What is left of all documents, what the filter took, and what went before."""
    left, taken = (1000 * documents / whole for documents in (rule.flow.documents_out, rule.dropped))
    taken = max(taken, 2.0) if rule.dropped else 0.0  # a few can be seen, too
    told = f"{share(rule.flow.documents_out, whole)} of all are left"
    return (
        f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="{told}">'
        f'<rect class="went" width="1000" height="10"/><rect class="stays" width="{left:.2f}" height="10"/>'
        f'<rect class="goes" x="{left:.2f}" width="{taken:.2f}" height="10"/></svg>'
    )


def _measures(histograms: Sequence[Histogram]) -> str:
    if not histograms:
        return ""
    drawn = [(_measure(histogram, i), histogram.takes()) for i, histogram in enumerate(histograms)]
    busy, idle = ("".join(figure for figure, takes in drawn if takes == wanted) for wanted in (True, False))
    told = (
        "<p>What would pass each filter if a threshold were another one. What its other rules drop stays dropped; what later filters would say "
        "of documents that they never saw is not known.</p>"
    )
    rest = f'<details><summary>measures that drop nothing here</summary><div class="measures">{idle}</div></details>' if idle else ""
    return f'{told}<div class="measures">{busy}</div>{rest}'


def _measure(histogram: Histogram, number: int) -> str:
    bars, edges, name = histogram.bars(), histogram.edges, escape(one_line(histogram.measure))
    n, top = len(edges), max(1, *bars)
    drawn = "".join(_column(i, 100 * bar / top, f"{_bin(histogram, i)}: {bar:,}") for i, bar in enumerate(bars) if bar)
    slides = "".join(
        f'<label class="slide"><span>{what}</span><input type="range" min="0" max="{n}" value="{value}" aria-label="{name}, {what}">'
        "<output></output></label>"
        for what, value in zip(("at least", "at most"), histogram.chosen(), strict=True)
    )
    return (
        f'<figure id="measure-{number}"><figcaption><span>{name}</span><button type="button">as now</button></figcaption>'
        f'<svg viewBox="0 0 {n + 1} 100" preserveAspectRatio="none" role="img" aria-label="how {name} is spread">{drawn}</svg>'
        f'<div class="axis"><span>{edges[0]:.4g}</span><span>{edges[n // 2]:.4g}</span><span>{edges[-1]:.4g}</span></div>'
        f"{slides}<p><b></b> of {histogram.reached:,} would pass, <span></span></p></figure>"
    )


def _column(place: int, height: float, title: str) -> str:
    height = max(height, 1.0)  # a few can be seen, too
    return (
        f'<rect class="stays" data-bar="{place}" x="{place + 0.06:g}" width=".88" y="{100 - height:.2f}" height="{height:.2f}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _bin(histogram: Histogram, place: int) -> str:
    edges = histogram.edges
    if place == 0:
        return f"below {edges[0]:.4g}"
    return f"from {edges[-1]:.4g}" if place == len(edges) else f"{edges[place - 1]:.4g} to {edges[place]:.4g}"


def _dropped(page: Page) -> str:
    groups = [
        _group(f"{look.code(one_line(filter))}: {len(found)} of {total:,} dropped documents", map(_article, found), place == 0)
        for place, (filter, (found, total)) in enumerate(page.dropped.items())
    ]
    return "".join(groups)


def _group(summary: str, articles: Iterable[str], unfolded: bool) -> str:
    return f'<details class="group"{" open" if unfolded else ""}><summary>{summary}</summary>{"".join(articles)}</details>'


def _article(found: Found) -> str:
    drop = found.drop
    head = f'<b class="bad">{escape(one_line(drop.filter))}</b><span>{_why(drop)}</span>' if drop else ""
    text = marked(excerpt(inert(found.text), found.spans, CHARS))
    return f'<article tabindex="0"><header>{head}{look.code(one_line(found.id))}</header><div class="text" dir="auto">{text}</div></article>'


def _pairs(pairs: dict[str, tuple[list[Pair], int]]) -> str:
    last = len(pairs) - 1  # the later ones compare more closely, so that there is something to see
    groups = [
        _group(f"{look.code(one_line(filter))}: {len(found)} of {total:,} repetitions", map(_pair, found), place == last)
        for place, (filter, (found, total)) in enumerate(pairs.items())
    ]
    return "<p>Words that the other one lacks are marked.</p>" + "".join(groups) if groups else ""


def _pair(pair: Pair) -> str:
    one, other = pair.dropped, pair.twin
    if other is None:
        sides = excerpt(inert(one.text), chars=CHARS), [Piece("the text of the other one is not here", "gap")]
    else:
        sides = differences(inert(one.text), inert(other.text), CHARS)
    heads = (f"dropped {look.code(one_line(one.id))}", f"{other.where if other else 'elsewhere'} {look.code(one_line(pair.of))}")
    cells = "".join(
        f'<div><p class="dim">{head}</p><div class="text" dir="auto">{marked(side)}</div></div>'
        for head, side in zip(heads, sides, strict=True)
    )
    why = _why(one.drop) if one.drop else ""
    return f'<article tabindex="0"><header><span>{why}</span></header><div class="two">{cells}</div></article>'


def _leaks(leaks: Sequence[Leak], total: int, leaking: Sequence[Found]) -> str:
    if not leaks:
        return ""
    rows = [
        (escape(one_line(leak.item)), f"{leak.dropped:,}", f"{leak.rewritten:,}", " ".join(look.code(one_line(id, 60)) for id in leak.ids))
        for leak in leaks
    ]
    table = look.table(("test item", "dropped", "rewritten", "documents"), rows, figures=(1, 2))
    return f'<p>{len(leaks)} of {total:,}.</p><div class="wrap">{table}</div>' + "".join(map(_article, leaking))


def _why(said: Judgement) -> str:
    """The reason, and what was measured against what."""
    return escape(one_line(said.reason) + said.compared)


def marked(pieces: Sequence[Piece]) -> str:
    """Pieces of a text as HTML."""
    tags = {"": ("", ""), "mark": ("<mark>", "</mark>"), "gap": ('<span class="gap">', "</span>")}
    return "".join(f"{tags[piece.kind][0]}{escape(piece.text)}{tags[piece.kind][1]}" for piece in pieces)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
