"""XHTML of books as plain text: paragraphs, "# headings" as in Markdown. In linear time, however broken it is."""

from __future__ import annotations

import html
import re

HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
BLOCKS = frozenset({
    "p", "div", "br", "hr", "li", "tr", "blockquote", "pre", "section", "article", "header", "footer", "ul", "ol", "dl", "dt", "dd", "table",
    "figure", "figcaption", "aside", "nav", "body", "center",
}) | HEADINGS.keys()  # fmt: skip
SILENT = frozenset({"script", "style", "head", "svg", "math", "nav"})
_NAME = re.compile(r"/?(?:[a-z]{1,10}:)?([a-z][a-z0-9]{0,15})", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")


def plain(markup: str) -> str:
    """The text of a page of XHTML, a paragraph per block."""
    blocks: list[str] = []
    words: list[str] = []
    prefix, at, silent_until = "", 0, ""

    def close() -> None:
        nonlocal words
        text = _BLANKS.sub(" ", html.unescape("".join(words))).strip()
        if text:
            blocks.append(prefix + text)
        words = []

    while (start := markup.find("<", at)) >= 0:
        if not silent_until:
            words.append(markup[at:start])
        if markup.startswith("<!--", start):
            end = markup.find("-->", start)
            at = end + 3 if end >= 0 else len(markup)
            continue
        end = markup.find(">", start)
        if end < 0:
            at = len(markup)
            break
        tag, at = markup[start + 1 : end], end + 1
        name = found[1].lower() if (found := _NAME.match(tag)) else ""
        if silent_until:
            silent_until = "" if tag.startswith("/") and name == silent_until else silent_until
        elif name in SILENT and not tag.startswith("/") and not tag.endswith("/"):
            silent_until = name
        elif name in BLOCKS:
            close()
            prefix = "#" * HEADINGS[name] + " " if name in HEADINGS and not tag.startswith("/") else ""
    if not silent_until:
        words.append(markup[at:])
    close()
    return "\n\n".join(blocks)
