"""Books in files: EPUB and PDF, each as one document."""

from __future__ import annotations

import json
import logging
import posixpath
import zipfile
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote
from xml.parsers import expat

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_bytes
from bloomery.text.documents import Document
from bloomery.text.readers.markup import plain
from bloomery.text.readers.reader import Damage
from bloomery.text.readers.web import decoded_page

CONTAINER = "META-INF/container.xml"
PART_FILES = 20_000  # that a book may have


def epub(file: BinaryIO, name: str, limit: int) -> Document | Damage:
    """A book of XHTML in a ZIP archive, its chapters in reading order, with Markdown's headings; `meta` has title, creator and language.

    Args:
        file: the book, in which one can go to and fro.
        name: of the file.
        limit: bytes that its chapters may have together when unpacked.
    """
    try:
        with zipfile.ZipFile(file) as book:
            if len(book.namelist()) > PART_FILES:
                return Damage(name, f"holds {len(book.namelist())} files; a book has {PART_FILES} at most")
            package_at = next((a["full-path"] for tag, a, _ in _elements(_part(book, CONTAINER, limit)) if tag == "rootfile"), "")
            meta, paths = _package(_part(book, package_at, limit), posixpath.dirname(package_at))
            texts, left = [], limit
            for path in paths:
                data = _part(book, path, left)
                left -= len(data)
                texts.append(plain(decoded_page(data)[0]))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, expat.ExpatError, ValueError, KeyError, EOFError, OSError, NotImplementedError) as error:
        return Damage(name, f"does not read as EPUB ({error})")
    except RuntimeError as error:  # zipfile's word for encryption
        return Damage(name, f"is encrypted ({error})")
    return Document(name, "\n\n".join(text for text in texts if text), name, None, json.dumps(meta, ensure_ascii=False))


def pdf(file: BinaryIO, name: str, limit: int) -> Document | Damage:
    """The text that a PDF says it shows, page by page; `meta` has title, author and pages.

    Raises:
        ConfigError: pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise ConfigError(f"{name} is a PDF, for which another package is needed; pip install 'bloomery[pdf]'") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of each oddity; what cannot be read is damage here
    try:
        book = PdfReader(file)
        texts, size = [], 0
        for page in book.pages:
            texts.append(page.extract_text().strip())
            size += len(texts[-1])
            if size > limit:
                return Damage(name, f"expands beyond max_document_bytes={limit} ({human_bytes(limit)})")
        about = book.metadata or {}
        meta = {"title": str(about.get("/Title") or ""), "author": str(about.get("/Author") or ""), "pages": len(texts)}
    except Exception as error:  # hostile files bring out errors of every kind
        return Damage(name, f"does not read as PDF ({type(error).__name__}: {str(error)[:200]})")
    return Document(name, "\n\n".join(text for text in texts if text), name, None, json.dumps(meta, ensure_ascii=False))


def _part(book: zipfile.ZipFile, path: str, limit: int) -> bytes:
    with book.open(path) as part:
        data = part.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"expands beyond max_document_bytes={limit} ({human_bytes(limit)})")
    return data


def _package(xml: bytes, folder: str) -> tuple[dict[str, str], list[str]]:
    """Title, creator and language of a book, and the paths of its chapters."""
    meta: dict[str, str] = {}
    items: dict[str, str] = {}
    spine: list[str] = []
    for tag, attributes, text in _elements(xml):
        if tag in ("title", "creator", "language") and text.strip():
            meta.setdefault(tag, text.strip())
        elif tag == "item" and "html" in attributes.get("media-type", ""):
            items[attributes.get("id", "")] = attributes.get("href", "")
        elif tag == "itemref":
            spine.append(attributes.get("idref", ""))
    return meta, [posixpath.normpath(posixpath.join(folder, unquote(items[id]))) for id in dict.fromkeys(spine) if id in items]


def _elements(xml: bytes) -> Iterator[tuple[str, dict[str, str], str]]:
    """Name, attributes and text of each element, as they end; prefixes are left out.

    Raises:
        ValueError: the XML declares entities, which can stand for more than memory holds.
    """
    parser = expat.ParserCreate()
    found: list[tuple[str, dict[str, str], str]] = []
    opened: list[tuple[str, dict[str, str], list[str]]] = []

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities")

    def end(tag: str) -> None:
        name, attributes, parts = opened.pop()
        found.append((name, attributes, "".join(parts)))

    def say(data: str) -> None:
        if opened:
            opened[-1][2].append(data)

    parser.StartElementHandler = lambda tag, attributes: opened.append((tag.rpartition(":")[2], attributes, []))
    parser.EndElementHandler, parser.CharacterDataHandler, parser.EntityDeclHandler = end, say, refuse
    parser.Parse(xml, True)
    return iter(found)
