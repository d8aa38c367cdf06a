"""`ExtractHtml`: the main text of web pages, in the place of their markup."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.core.errors import ConfigError
from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.meta import with_meta

IS_HTML = r'"content_type"\s*:\s*"[^"]*html'
"""What `meta` says of pages (RE2): text/html, application/xhtml+xml, html."""

NO_TEXT = "no main text"
TAG = re.compile(rb"<(/?)([a-zA-Z][^\s/>]{0,30})")
UNCLOSED = frozenset(
    b"area base br col embed hr img input link meta param source track wbr "  # have no end
    b"body colgroup dd dt head html li optgroup option p rb rp rt tbody td tfoot th thead tr".split()  # need none
)


class Page(NamedTuple):
    """What a page has been reduced to."""

    text: str
    title: str | None = None
    author: str | None = None
    description: str | None = None


class ExtractHtml(Filter):
    """Rewrites web pages, which are documents whose `meta` has a `content_type` of HTML, to their main text; drops those without any.

    Two extractors read a page. trafilatura's text stands, unless resiliparse finds `rescue` times as much: then trafilatura has lost the
    thread, and resiliparse's is taken. Title, author and description go into `meta`, whose `content_type` becomes "text/plain". Pages with
    more than `max_tags` tags are read by resiliparse alone, whose time grows with their size only.

    Source: Barbaresi (2021), Trafilatura, ACL demo 15; Bevendorff et al. (2018), Elastic ChatNoir (Resiliparse); departures: as said.
    """

    max_bytes: int = 20_000_000
    """Larger pages go unread."""
    max_depth: int = 2000
    """Pages whose elements lie deeper in each other go unread: extractors take quadratic time in it."""
    max_tags: int = 30_000
    """Pages with more tags are read by the fast extractor alone."""
    rescue: float = 2.0
    """How much more text the fast extractor must find to be believed."""
    min_chars: int = 1
    """Shorter main texts are none."""

    def check(self) -> None:
        for name, least in (("max_bytes", 1), ("max_depth", 1), ("max_tags", 0), ("rescue", 1), ("min_chars", 1)):
            if getattr(self, name) < least:
                raise self.refuse(name, f"is below {least}")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        pages = pc.fill_null(pc.match_substring_regex(batch.column("meta"), IS_HTML), False)
        rows = np.flatnonzero(pages.to_numpy(zero_copy_only=False))
        if not len(rows):
            return Verdicts.keep(batch)
        size = pc.if_else(pages, pc.binary_length(batch.column("text")).cast(pa.float64()), pa.scalar(None, pa.float64()))
        depths = np.full(batch.num_rows, np.nan)
        found: list[Page | None] = [None] * batch.num_rows
        for row in rows.tolist():
            if size[row].as_py() <= self.max_bytes:
                html = batch.column("text")[row].as_py()
                shape = outline(html.encode())
                depths[row] = shape.depth
                found[row] = self.main_text(html, shape.tags) if shape.depth <= self.max_depth else None
        depth = pa.array(depths, mask=np.isnan(depths))
        bounds = [Measure(name="html_bytes", values=size, high=self.max_bytes), Measure(name="html_depth", values=depth, high=self.max_depth)]
        return self._verdicts(batch, Verdicts.by_measures(batch, bounds), pages, found)

    def main_text(self, html: str, tags: int) -> Page:
        """The main text of a page that has so many tags, with its title and what else it says of itself."""
        tree, text = _resiliparse(html)
        if tags <= self.max_tags:
            best = _trafilatura(html)
            text = text if best and len(text) >= self.rescue * len(best) else best
        return Page(text, *_said(tree))

    def _verdicts(self, batch: pa.RecordBatch, bounded: Verdicts, pages: pa.Array, found: list[Page | None]) -> Verdicts:
        text = pc.utf8_trim_whitespace(pa.array([page.text if page else None for page in found], pa.string()))
        text = pc.if_else(pc.greater_equal(pc.utf8_length(text), self.min_chars), text, pa.scalar(None, pa.string()))

        def column(name: str) -> pa.Array:
            return pc.if_else(text.is_valid(), pa.array([getattr(page, name) if page else None for page in found], pa.string()), None)

        empty = pc.and_(pc.and_(pages, text.is_null()), pc.invert(bounded.dropped))
        kind = pc.if_else(text.is_valid(), "text/plain", pa.scalar(None, pa.string()))
        said = with_meta(batch, {"content_type": kind} | {name: column(name) for name in Page._fields[1:]})
        after = said.set_column(said.schema.get_field_index("text"), said.schema.field("text"), pc.coalesce(text, batch.column("text")))
        reasons = pc.if_else(empty, NO_TEXT, pc.if_else(text.is_valid(), "main text of a page", bounded.reasons))
        return Verdicts(
            batch=after, reasons=reasons, dropped=pc.or_(empty, bounded.dropped), values=bounded.values, threshold=bounded.threshold,
            measures=bounded.measures,
        )  # fmt: skip


class Outline(NamedTuple):
    """The shape of a page."""

    tags: int
    depth: int


def outline(html: bytes) -> Outline:
    """How many tags a page has, and about how deep its elements lie in each other, told without parsing, in linear time.

    End tags of what is not open count for nothing, as in parsers; elements that need no end tag are not counted, since they close each other.
    """
    tags, depth, deepest = 0, 0, 0
    opened: dict[bytes, int] = {}
    for end, name in TAG.findall(html):
        name = name.lower()
        if not end:
            tags += 1
            if name not in UNCLOSED:
                opened[name] = opened.get(name, 0) + 1
                depth += 1
                deepest = max(deepest, depth)
        elif opened.get(name):
            opened[name] -= 1
            depth -= 1
    return Outline(tags, deepest)


def _resiliparse(html: str) -> tuple[Any, str]:
    """The page's tree, and what resiliparse takes for its main text."""
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree
    except ImportError:
        raise _missing("resiliparse") from None

    tree = HTMLTree.parse(html)
    return tree, extract_plain_text(tree, main_content=True, alt_texts=False, comments=False)


def _trafilatura(html: str) -> str:
    """What trafilatura takes for a page's main text."""
    try:
        from trafilatura import extract
    except ImportError:
        raise _missing("trafilatura") from None

    return extract(html, include_comments=False, favor_precision=True) or ""


def _missing(package: str) -> ConfigError:
    return ConfigError(f"ExtractHtml needs another package, {package}; pip install 'bloomery[web]'")


def _said(tree: Any) -> tuple[str | None, ...]:
    """Title, author and description of a page, null where it has none."""
    heads = [tree.document.query_selector(f'meta[name="{name}"]') for name in ("author", "description")]
    said = [tree.title, *(head.getattr("content") if head else None for head in heads)]
    return tuple(" ".join(value.split()) or None if value else None for value in said)
