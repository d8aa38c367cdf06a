"""`Normalise`, `WhiteSpace`, `Punctuation`: one spelling for what looks the same."""

from __future__ import annotations

from functools import partial
from typing import Literal
from unicodedata import is_normalized, normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Verdicts
from bloomery.text.filters.rewriting import rewritten, substitute, where

INVISIBLE = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\x{FEFF}\\x{FFFE}\\x{FFFF}]"
"""Control characters but tab and newline, byte order marks, and what Unicode says is no character."""

LINE_ENDS = "[\\x{0B}\\x{0C}\\x{85}\\x{2028}\\x{2029}]"
"""What Unicode says ends a line, or a page, besides "\\r" and "\\n"."""

EXOTIC_SPACES = "[\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{202F}\\x{205F}\\x{3000}]"
"""The spaces of Unicode (category Zs) that are not the one of ASCII."""

QUOTES = {"[‘’‚‛′]": "'", "[“”„‟″]": '"'}
DASHES = {"[\\x{2010}-\\x{2012}\\x{2212}]": "-", "\\x{2013}": "-", "[\\x{2014}\\x{2015}]": "--"}
ELLIPSES = {"…": "..."}


class Normalise(Filter):
    """Rewrites newlines as "\\n", removes byte order marks and control characters (NUL among them), and composes accents.

    Source: Unicode Standard Annex 15, form NFC; line ends as in XML 1.0, section 2.11.
    """

    form: Literal["NFC", "NFKC", "none"] = "NFC"
    """Unicode's form: NFC joins letters and accents; NFKC also unfolds ligatures and widths; "none" leaves all as it is."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, self._normal, "newlines, control characters or Unicode form")

    def _normal(self, text: pa.Array) -> pa.Array:
        text = where(pc.match_substring(text, "\r"), text, _newlines)
        text = substitute(INVISIBLE, "")(text)
        if self.form == "none":
            return text
        return where(pc.invert(pc.string_is_ascii(text)), text, partial(_composed, form=self.form))


class WhiteSpace(Filter):
    """Rewrites exotic spaces as the plain one and exotic line ends as "\\n"; takes away blanks at line ends and blank lines in excess.

    Blank lines before the first line go, and after the last; a newline that ends the text stays.

    Source: Unicode Standard, section 6.2 (spaces) and Annex 14 (line ends); departure: the zero-width space is a symbol, see `Symbols`.
    """

    max_blank_lines: int = 2
    """How many blank lines in a row stay, inside the text."""
    max_spaces: int | None = None
    """How many spaces in a row stay, inside a line; None keeps all, and with them indentation and columns."""

    def check(self) -> None:
        if not 0 <= self.max_blank_lines <= 100:
            raise self.refuse("max_blank_lines", "is not between 0 and 100; 1 keeps paragraphs apart")
        if self.max_spaces is not None and not 1 <= self.max_spaces <= 100:
            raise self.refuse("max_spaces", "is not between 1 and 100; None keeps all spaces")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, self._spaced, "white space")

    def _spaced(self, text: pa.Array) -> pa.Array:
        text = substitute(LINE_ENDS, "\n")(text)
        text = substitute(EXOTIC_SPACES, " ")(text)
        if self.max_spaces is not None:
            text = substitute(f" {{{self.max_spaces + 1},}}", " " * self.max_spaces)(text)
        text = substitute("(?m)[ \t]+$", "")(text)
        newlines = self.max_blank_lines + 1
        text = substitute(f"\n{{{newlines + 1},}}", "\n" * newlines)(text)
        text = substitute("^\n+", "")(text)
        return substitute("\n{2,}\\z", "\n")(text)


class Punctuation(Filter):
    """Rewrites typographers' punctuation as the plain one of ASCII; which kinds, the fields say.

    Source: the mappings follow Unicode's confusables (Unicode Technical Standard 39); departure: dashes of an em become two hyphens.
    """

    quotes: Literal["straight", "keep"] = "straight"
    """Curly, low and reversed quotation marks and primes as ' and "."""
    dashes: Literal["hyphen", "keep"] = "keep"
    """Hyphens, minus signs and dashes of an en as -, dashes of an em as --."""
    ellipses: Literal["dots", "keep"] = "keep"
    """The ellipsis as three full stops."""

    def check(self) -> None:
        if not self._rules():
            raise self.refuse("quotes", "and all other fields are 'keep', so nothing would change; leave the filter out")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, self._plain, "punctuation")

    def _rules(self) -> dict[str, str]:
        kinds = ((self.quotes, QUOTES), (self.dashes, DASHES), (self.ellipses, ELLIPSES))
        return {pattern: plain for choice, kind in kinds if choice != "keep" for pattern, plain in kind.items()}

    def _plain(self, text: pa.Array) -> pa.Array:
        for pattern, plain in self._rules().items():
            text = substitute(pattern, plain)(text)
        return text


def _composed(text: pa.Array, form: Literal["NFC", "NFKC"]) -> pa.Array:
    # Python's quick check reads a text ten times as fast as a normalisation writes it, and hardly any text needs one
    wrong = np.array([not is_normalized(form, value) for value in text.to_pylist()], bool)
    return where(pa.array(wrong), text, lambda t: pa.array([normalize(form, value) for value in t.to_pylist()], pa.string()))


def _newlines(text: pa.Array) -> pa.Array:
    return pc.replace_substring(pc.replace_substring(text, "\r\n", "\n"), "\r", "\n")
