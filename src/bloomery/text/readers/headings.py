"""Where the chapters of a text begin: of books in plain text, of Markdown, of LaTeX."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

LONGEST_HEADING = 120  # characters
ENDS = (".", "!", "?", '"', "'", "”", "’", "»", "*", ")")  # of a paragraph, where books put no empty line between it and a heading
LONGEST_TITLE = 80  # of one that stands below its chapter's number

_NUMBERS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|"
    "thirty|forty|fifty|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|last|"
    "erste[rsn]?|zweite[rsn]?|dritte[rsn]?|vierte[rsn]?|fünfte[rsn]?|sechste[rsn]?|siebte[rsn]?|siebente[rsn]?|achte[rsn]?|neunte[rsn]?|"
    "zehnte[rsn]?|elfte[rsn]?|zwölfte[rsn]?|[a-zäöü]{3,20}zehnte[rsn]?|[a-zäöü]{3,24}ßigste[rsn]?|[a-zäöü]{3,24}zigste[rsn]?|letzte[rsn]?|"
    "premi[eè]re?|deuxi[eè]me|troisi[eè]me|primer[oa]?|segund[oa]|tercer[oa]?|prim[oa]|second[oa]|terz[oa]"
)
_GREATER = "book|part|volume|phase|buch|teil|band|livre|partie|parte|libro"
_LESSER = "chapter|letter|stave|canto|scene|act|section|kapitel|abschnitt|brief|chapitre|cap[ií]tulo|capitolo"
_COUNT = rf"(?:[0-9]{{1,3}}|[ivxlc]{{1,8}}|(?:the )?(?:{_NUMBERS})(?:[ -](?:{_NUMBERS}))?)"
_KEYWORD = re.compile(rf"(?:(?P<greater>{_GREATER})|{_LESSER})[ .]+{_COUNT}(?P<rest>[ .:)\]—–-].*)?$", re.IGNORECASE)
_ORDINAL = re.compile(rf"(?:the )?(?:{_NUMBERS}) (?:(?P<greater>{_GREATER})|{_LESSER})(?P<rest>[ .:—–-].*)?$", re.IGNORECASE)
_ALONE = re.compile(
    r"(?:author's )?(?:preface|prologue|epilogue|introduction|conclusion|foreword|afterword|appendix|vorwort|vorrede|nachwort|einleitung|"
    r"prolog|epilog|prefacio|préface)\.?$", re.IGNORECASE,
)  # fmt: skip
_ROMAN = re.compile(r"(?=[IVXLC])(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\.?$")
_MARKDOWN = re.compile(r"(#{1,6})[ \t]+(\S.*)$")
_LATEX = re.compile(r"\\(part|chapter|section|subsection|subsubsection)\*?[ \t]*(?:\[[^\]\n]{0,200}\])?\{")
LATEX_LEVELS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4}
_GUTENBERG = re.compile(r"^\*\*\* ?(START|END) OF TH(?:E|IS) PROJECT GUTENBERG[^\n]*$", re.MULTILINE)


_Match = Callable[[str], "re.Match[str] | None"]


class Section(NamedTuple):
    """A stretch of a text with what stands above it.

    Attributes:
        title: its heading, or None for what stands before the first one.
        part: the heading of the book or volume that it belongs to, if there is one.
        start, end: where its words begin and end, in characters of the text.
    """

    title: str | None
    part: str | None
    start: int
    end: int


class _Heading(NamedTuple):
    title: str
    greater: bool
    start: int
    end: int


def sections(text: str, depth: int) -> list[Section]:
    """The chapters of a text in their order, those without words left out; the whole text where no headings are seen.

    Args:
        text: LaTeX, Markdown or plain.
        depth: the level down to which headings of LaTeX and Markdown count: 1 are chapters, 2 sections …
    """
    first, last = _bounds(text)
    headings = _of_latex(text, depth) or _of_markdown(text, depth) or _of_book(text)
    headings = [heading for heading in headings if first <= heading.start < last]
    found: list[Section] = []
    part: str | None = None
    edges = [_Heading("", False, first, first), *headings, _Heading("", False, last, last)]
    for heading, following in itertools.pairwise(edges):
        if text[heading.end : following.start].strip():
            title = heading.title or None
            found.append(Section(title, None if heading.greater else part, heading.end, following.start))
        if heading.greater:
            part = heading.title
    return found


def title_of(text: str) -> str | None:
    """What a text calls itself: LaTeX's title, Gutenberg's, Markdown's first heading, or a short first line."""
    head = text[:8192]
    if (at := head.find("\\title{")) >= 0:
        return _braced(text, at + 7)[0]
    if said := re.search(r"^Title:[ \t]*(\S[^\n]{0,200})$", head, re.MULTILINE):
        return said[1].strip()
    first = next((line.strip() for line in head.splitlines() if line.strip()), "")
    if heading := _MARKDOWN.match(first):
        return heading[2].strip("# ")
    return first.strip("*_= ") if 0 < len(first) <= LONGEST_TITLE and not first.endswith((".", ",", ";", ":")) else None


def _bounds(text: str) -> tuple[int, int]:
    """The text without what Project Gutenberg says before and behind it."""
    first, last = 0, len(text)
    for mark in _GUTENBERG.finditer(text):
        if mark[1] == "START" and not first:
            first = mark.end()
        elif mark[1] == "END" and mark.start() > first:
            return first, mark.start()
    return first, last


def _of_latex(text: str, depth: int) -> list[_Heading]:
    found = []
    for match in _LATEX.finditer(text):
        title, end = _braced(text, match.end())
        if LATEX_LEVELS[match[1]] <= depth and title:
            found.append(_Heading(title, match[1] == "part", match.start(), end))
    return found


def _braced(text: str, start: int) -> tuple[str, int]:
    """What stands up to the brace that closes, of at most 500 characters, in one line; and where it ends."""
    open_braces = 1
    for at in range(start, min(len(text), start + 500)):
        open_braces += (text[at] == "{") - (text[at] == "}")
        if not open_braces:
            return " ".join(text[start:at].split()), at + 1
    return "", start


def _of_markdown(text: str, depth: int) -> list[_Heading]:
    found, fenced = [], ""
    for line, start, end in _lines(text):
        if line.startswith(("```", "~~~")):
            fenced = "" if fenced and line.startswith(fenced) else fenced or line[:3]
        elif not fenced and line.startswith("#") and (match := _MARKDOWN.match(line)) and len(match[1]) <= depth:
            found.append(_Heading(match[2].strip("# "), False, start, end))
    return found


def _of_book(text: str) -> list[_Heading]:
    lines = [(line.strip("*_=[] \t\f\ufeff"), start, end) for line, start, end in _lines(text)]
    found = _numbered(lines, lambda line: _KEYWORD.match(line) or _ORDINAL.match(line) or _ALONE.match(line))
    if sum(not heading.greater for heading in found) < 2:
        found = _numbered(lines, lambda line: _KEYWORD.match(line) or _ORDINAL.match(line) or _ALONE.match(line) or _ROMAN.match(line))
    return found


def _numbered(lines: list[tuple[str, int, int]], match: _Match) -> list[_Heading]:
    found: list[_Heading] = []
    after = -1  # the index of the line behind the last heading
    for i, (line, start, end) in enumerate(lines):
        if not line or i < after or len(line) > LONGEST_HEADING or not (said := match(line)):
            continue
        above = lines[i - 1][0] if i else ""
        if above and i != after and not (line[0].isupper() and above.endswith(ENDS) and _KEYWORD.match(line)):
            continue
        groups = said.groupdict()
        rest = (groups.get("rest") or "").strip(" .:)]—–-_")
        if groups.get("rest") is not None and rest and rest[0].islower() and not groups["rest"].lstrip().startswith((":", "-", "—", "–")):
            continue  # "Part of the crowd", "Book the seats"
        title, after = line, i + 1
        if not rest and not _ALONE.match(line):
            below = next((j for j in range(i + 1, min(i + 3, len(lines))) if lines[j][0]), None)
            if below is not None and _is_title(lines, below, match):
                title, end, after = f"{line.rstrip('.')}. {lines[below][0]}", lines[below][2], below + 1
        found.append(_Heading(title, bool(groups.get("greater")), start, end))
    return found


def _is_title(lines: list[tuple[str, int, int]], at: int, match: _Match) -> bool:
    """Whether a line below a chapter's number is its title: short, alone, and no sentence."""
    line = lines[at][0]
    alone = at + 1 >= len(lines) or not lines[at + 1][0]
    capital = line.upper() == line or not line.endswith((".", ",", ";", ":", "!", "?", '"', "'", "”"))
    return alone and capital and len(line) <= LONGEST_TITLE and not match(line)


def _lines(text: str) -> Iterator[tuple[str, int, int]]:
    """Each line without its end, where it begins, and where the next one does."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end].rstrip("\r"), start, min(end + 1, len(text))
        start = end + 1
