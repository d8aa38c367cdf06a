"""`Symbols`: takes away characters that nobody sees or means, and lines that are drawn."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from bloomery.text.filters.filter import Filter, Verdicts
from bloomery.text.filters.rewriting import rewritten, substitute

Kind = Literal["zero_width", "soft_hyphens", "direction_marks", "private_use", "placeholders", "tags"]

CHARACTERS: dict[Kind, str] = {
    "zero_width": "\\x{180E}\\x{200B}\\x{2060}-\\x{2064}\\x{FEFF}",
    "soft_hyphens": "\\x{AD}",
    "direction_marks": "\\x{200E}\\x{200F}\\x{202A}-\\x{202E}\\x{2066}-\\x{206F}",
    "private_use": "\\x{E000}-\\x{F8FF}\\x{F0000}-\\x{FFFFD}\\x{100000}-\\x{10FFFD}",
    "placeholders": "\\x{FFF9}-\\x{FFFD}",
    "tags": "\\x{E0000}-\\x{E007F}",
}
"""Characters by kind, as RE2 spells ranges."""


class Symbols(Filter):
    """Removes invisible and meaningless characters, and whole lines of symbols ("* * * * *", "==========").

    The joiners U+200C and U+200D stay: Persian, the scripts of India and emoji are spelt with them.

    Source: Unicode Standard, section 23 (special areas and format characters).
    """

    remove: tuple[Kind, ...] = ("zero_width", "soft_hyphens", "direction_marks", "private_use", "placeholders", "tags")
    """Which characters go. Placeholders are those for objects, annotations and what could not be decoded; tags hide text, and are spelt only
    in the flags of parts of countries."""
    symbol_line_chars: int | None = 10
    """Lines of at least so many symbols, and no letters and digits, go; None keeps them. Rows of tables ("|---|") and long lines that mix
    more than drawing characters stay."""

    def check(self) -> None:
        if self.symbol_line_chars is not None and not 2 <= self.symbol_line_chars <= 1000:
            raise self.refuse("symbol_line_chars", "is not between 2 and 1000; None keeps all lines")
        if not self.remove and self.symbol_line_chars is None:
            raise self.refuse("remove", "is empty and symbol_line_chars is None, so nothing would change; leave the filter out")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, self._cleaned, "symbols")

    def _cleaned(self, text: pa.Array) -> pa.Array:
        if self.remove:
            text = substitute(f"[{''.join(CHARACTERS[kind] for kind in self.remove)}]", "")(text)
        if self.symbol_line_chars is not None:
            text = substitute(_drawn(self.symbol_line_chars), "")(text)
        return text


def _drawn(chars: int) -> str:
    """The pattern for a line of one drawing character, spaces between or not, with its newline."""
    kinds = (*r"*=-_~#.+^<>/\:;!?%$&@", "•", "·", "─", "═", "━", "—", "–", "█", "░", "▬", "★", "☆", "♦", "♥")
    lines = "|".join(f"(?:\\x{{{ord(kind):X}}}[ \\t]*){{{chars},}}" for kind in kinds)
    return f"(?m)^[ \\t]*(?:{lines})(?:\n|\\z)"
