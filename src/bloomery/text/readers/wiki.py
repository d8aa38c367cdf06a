"""Dumps of MediaWiki (pages-articles.xml), page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from xml.parsers import expat

from bloomery.core.units import human_bytes
from bloomery.text.documents import Document
from bloomery.text.readers.reader import Damage
from bloomery.text.readers.streams import bounded_pieces
from bloomery.text.readers.wikitext import plain

PAGE, PAGE_END = b"<page>", b"</page>"  # cannot be in a page, whose text is escaped
FIELDS = frozenset({"title", "ns", "id", "timestamp", "text"})
MODELS = frozenset({"wikitext", ""})


def is_dump(head: bytes) -> bool:
    """Whether an XML file that begins with these bytes is a dump of a wiki."""
    return b"<mediawiki" in head or (PAGE in head and b"<revision" in head)


def pages(stream: Iterator[bytes], name: str, limit: int, namespaces: Sequence[int], skip: int) -> Iterator[Document | Damage]:
    """The articles of a dump as plain text, in their order; redirects are left out.

    `meta` has title, page (its number), namespace and date. A page that is broken or too long is damage.

    Args:
        stream: the bytes of the XML.
        name: of the file.
        limit: bytes of XML that a page may have.
        namespaces: which pages to read: 0 are articles.
        skip: how many pages, of whatever kind, to leave out.
    """
    for number, piece in enumerate(bounded_pieces(stream, PAGE_END, limit), 1):
        if number <= skip:
            continue
        id = f"{name}#P{number}"
        if isinstance(piece, int):
            yield Damage(id, f"expands beyond max_document_bytes={limit} ({human_bytes(limit)})", piece)
            continue
        begin = piece.find(PAGE)
        if begin < 0:
            if b"</mediawiki>" not in piece and piece.strip():
                yield Damage(id, "is no page", len(piece))
            continue
        try:
            page = _parsed(piece[begin:] + PAGE_END)
        except (expat.ExpatError, ValueError) as error:
            yield Damage(id, f"is not the XML of a page ({error})", len(piece))
            continue
        if "redirect" in page or int(page.get("ns") or 0) not in namespaces or page.get("model", "wikitext") not in MODELS:
            continue
        title = page.get("title", "")
        meta = {"title": title, "page": page.get("id"), "namespace": int(page.get("ns") or 0), "date": page.get("timestamp")}
        yield Document(id, plain(page.get("text", "")), name, None, json.dumps(meta, ensure_ascii=False))


def _parsed(xml: bytes) -> dict[str, str]:
    """The first title, number, namespace … of a page and the text of its last revision."""
    parser = expat.ParserCreate("utf-8")
    found: dict[str, str] = {}
    parts: list[str] | None = None

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal parts
        if tag in FIELDS:
            parts = []
        elif tag == "redirect":
            found["redirect"] = attributes.get("title", "")
        elif tag == "model":
            parts = []

    def end(tag: str) -> None:
        nonlocal parts
        if parts is not None and (tag in FIELDS or tag == "model"):
            if tag in ("text", "timestamp") or tag not in found:
                found[tag] = "".join(parts)
            parts = None

    def say(data: str) -> None:
        if parts is not None:
            parts.append(data)

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities")

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, say
    parser.EntityDeclHandler = refuse
    parser.Parse(xml, True)
    return found
