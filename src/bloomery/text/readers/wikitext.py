"""Wikitext as plain text: prose, headings and lists stay; templates, tables, references, files and categories go.

One pass over the text with a stack, so the time is linear however deep or broken the markup is.
Source: the markup of MediaWiki as its help pages describe it; departures: templates are not expanded, links nest 8 deep at most.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

REPAIRS = 3  # times that the opening of a template or table is taken for text because it is never closed
DEEPEST_LINKS = 8  # one in another, as in the caption of a picture

# what is cut out whole, from its opening to its closing tag
SILENT = "ref|math|chem|gallery|timeline|score|graph|mapframe|imagemap|syntaxhighlight|source|templatedata|references|indicator|hiero|inputbox"
_TOKEN = re.compile(
    rf"<!--|<(?:{SILENT})\b[^<>]{{0,2000}}>|<nowiki\s*>|</?[a-z][a-z0-9]*\b[^<>]{{0,2000}}>"
    r"|\{\{|\}\}|(?:^|(?<=\n))[ :]*\{\||(?:^|(?<=\n))\|\}(?!\})|\[\[|\]\]|\[(?=(?:https?|ftp)://|//)|\]",
    re.IGNORECASE,
)
_NAME = re.compile(r"<\s*([a-z0-9]+)", re.IGNORECASE)
_NAMESPACE = re.compile(r"\s*:?\s*([^\[\]|:\n]{2,30})\s*:")
_QUOTES = re.compile(r"'{2,5}")
_MAGIC = re.compile(r"__[A-Z]{4,20}__")
_EMPTY = re.compile(r"\([\s,;:/–-]{0,20}\)")
_BLANKS = re.compile(r"[ \t\u00a0]+")
_SPACE_BEFORE = re.compile(r" +([,.;:!?)])")
_LINE_START = re.compile(r"[*#:;]+[ \t]*")
_LINES = re.compile(r"\n{3,}")
BREAKS = frozenset({"br", "p", "div", "li", "tr", "blockquote", "center", "hr", "poem", "dd", "dt"})


@dataclass
class _Frame:
    """Something opened and not yet closed."""

    token: str
    parts: list[str] = field(default_factory=list)


def plain(wikitext: str, dropped_namespaces: frozenset[str] = frozenset({"file", "image", "category", "media"})) -> str:
    """The prose of a page: paragraphs, "## headings" as in Markdown, "- items" of lists.

    Args:
        wikitext: the markup.
        dropped_namespaces: links into these go with their captions, by name in lower case.
    """
    return _tidied(_unlinked(wikitext, dropped_namespaces))


def _unlinked(text: str, dropped_namespaces: frozenset[str], again: int = REPAIRS) -> str:
    stack = [_Frame("")]
    hidden = 0  # frames on the stack in which nothing is kept
    links, at, opening = 0, 0, 0
    missing: set[str] = set()  # closing tags of which no more follow

    def say(words: str) -> None:
        if not hidden and words:
            stack[-1].parts.append(words)

    while match := _TOKEN.search(text, at):
        say(text[at : match.start()])
        token, at = match[0], match.end()
        opened = token.strip(" :")
        if token == "<!--":
            at = _behind(text, at, "-->", missing)
        elif token.startswith("<"):
            name = _NAME.match(token)
            tag = name[1].lower() if name else ""
            if tag == "nowiki":
                end = _behind(text, at, "</nowiki>", missing)
                say(text[at : max(at, end - len("</nowiki>"))])
                at = end
            elif tag and not token.endswith("/>") and re.fullmatch(SILENT, tag):
                at = _behind(text, at, f"</{tag}>", missing)
            elif tag in BREAKS or token[1] == "/":
                say("\n" if (tag or token[2:-1].strip().lower()) in BREAKS else "")
        elif opened in ("{{", "{|"):
            if not hidden:
                opening = at
            stack.append(_Frame(opened))
            hidden += 1
        elif token == "}}":
            if stack[-1].token == "{{":
                stack.pop()
                hidden -= 1
        elif token == "|}":
            while hidden and stack[-1].token == "{{" and any(frame.token == "{|" for frame in stack[-hidden:]):
                stack.pop()  # a template in the table that was never closed
                hidden -= 1
            if stack[-1].token == "{|":
                stack.pop()
                hidden -= 1
        elif hidden:
            continue
        elif token in ("[[", "["):
            if links < DEEPEST_LINKS:
                stack.append(_Frame(token))
                links += 1
        elif token == "]]" and stack[-1].token == "[[":
            links -= 1
            target = "".join(stack.pop().parts)
            say(_link(target, dropped_namespaces))
        elif token == "]" and stack[-1].token == "[":
            links -= 1
            say("".join(stack.pop().parts).partition(" ")[2])
        elif token == "]":
            say(token)
    say(text[at:])
    if hidden and again:
        stack[-1].parts.append(_unlinked(text[opening:], dropped_namespaces, again - 1))
    return "".join(part for frame in stack for part in frame.parts)  # what was never closed is kept without its opening


def _behind(text: str, at: int, closing: str, missing: set[str]) -> int:
    """Behind the closing tag, or where we are if there is none; looks for a missing one only once."""
    if closing in missing:
        return at
    end = re.compile(re.escape(closing), re.IGNORECASE).search(text, at)
    if end is None:
        missing.add(closing)
        return at
    return end.end()


def _link(target: str, dropped_namespaces: frozenset[str]) -> str:
    namespace = _NAMESPACE.match(target)
    if namespace and not target.lstrip().startswith(":"):
        name = namespace[1].strip().lower()
        if name in dropped_namespaces or (re.fullmatch(r"[a-z]{2,3}(?:-[a-z]{2,8})?|simple", name) and "|" not in target):
            return ""
    page, bar, label = target.partition("|")
    return label if bar else page.strip().lstrip(":")


def _tidied(text: str) -> str:
    text = html.unescape(_MAGIC.sub("", _QUOTES.sub("", text)))
    lines: list[str] = []
    for line in text.splitlines():
        line = _BLANKS.sub(" ", line).strip()
        if line.startswith("=") and line.endswith("=") and (title := line.strip("= ")):
            level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
            while lines and (not lines[-1] or _level(lines[-1]) >= level):
                lines.pop()  # a section with nothing in it
            lines += ["", f"{'#' * level} {title}", ""]
            continue
        if line.startswith(("*", "#", ":", ";")) and (mark := _LINE_START.match(line)):
            line = line[mark.end() :]
            line = f"- {line}" if line and mark[0][0] in "*#" else line
        elif line.startswith(("|", "!")) or line == "----":
            continue
        lines.append(_SPACE_BEFORE.sub(r"\1", _BLANKS.sub(" ", _EMPTY.sub("", line))).strip())
    while lines and (not lines[-1] or _level(lines[-1])):
        lines.pop()
    return _LINES.sub("\n\n", "\n".join(lines)).strip()


def _level(line: str) -> int:
    """Of a heading, how many marks it has; 0 for other lines."""
    marks = len(line) - len(line.lstrip("#"))
    return marks if 0 < marks <= 6 and line[marks : marks + 1] == " " else 0
