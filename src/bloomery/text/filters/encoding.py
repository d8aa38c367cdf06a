"""`RepairEncoding`: text whose bytes were read in the wrong encoding ("cafÃ©"), read in the right one."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import SPANS, Filter, Verdicts
from bloomery.text.filters.rewriting import rewritten, where

_SIGNS = "\\x{80}-\\x{BF}×÷€‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸŽ΅΄ґҐ"
_DRAWN = "\\x{2500}-\\x{259F}"

SUSPECT = "|".join((
    "[\\x{80}-\\x{9F}\\x{FFFD}]",  # C1 controls, which nobody writes, and what was lost
    f"[\\x{{C0}}-\\x{{17F}}ΐ-ώ][{_SIGNS}]",  # UTF-8 read as Latin-1, Windows-1250, -1252, -1253, -1254, -1257
    "[ÃÂàá] ",  # the same, where a no-break space has become a plain one
    f"[ВГРС][{_SIGNS}][ВГРС]|в[Ђ€‰]|ГўВЂ|а[¤Ґ¦§]|[A-Za-z][Ѐ-џ][^A-Za-zЀ-ӿ ]",  # as Windows-1251
    f"[{_DRAWN}][^\\x00-\\x7F{_DRAWN}]|[^\\x00-\\x7F{_DRAWN}][{_DRAWN}]|Γ[\\x{{80}}-\\x{{FF}}]",  # as code page 437
    "[√≈∂∆][^\\x00-\\x7F]|‚[Äâóî]|·[ª∫]",  # as Mac Roman
))  # fmt: skip
"""What hardly stands in any text that was read in the right encoding (RE2): the mark of lines that are looked at more closely."""

SURROGATE = re.compile(r"[\ud800-\udfff]")


class RepairEncoding(Filter):
    """Rewrites lines whose bytes were decoded as something else than they are, once or several times: mojibake.

    A pattern over the whole batch finds the lines that could be wrong, and only they are tried, one by one, so that one wrong line among
    right ones is repaired. What cannot be told for certain is left alone.

    Source: Speer (2019), ftfy: fixes text for you, Zenodo 2591652; departures: its other mendings (quotes, widths, entities) are not done.
    """

    max_line_chars: int = 100_000
    """Longer lines are left as they are."""

    def check(self) -> None:
        if self.max_line_chars < 1:
            raise self.refuse("max_line_chars", "is below 1, so that no line would be looked at")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        return rewritten(batch, self._repaired, "text read in the wrong encoding", changed_lines)

    def _repaired(self, text: pa.Array) -> pa.Array:
        return where(pc.match_substring_regex(text, SUSPECT), text, self._by_line)

    def _by_line(self, text: pa.Array) -> pa.Array:
        split = pc.split_pattern(text, "\n")
        lines = split.flatten()
        suspect = pc.and_(pc.match_substring_regex(lines, SUSPECT), pc.less_equal(pc.utf8_length(lines), self.max_line_chars))
        fixed = where(suspect, lines, lambda some: pa.array(map(_fixer(), some.to_pylist()), pa.string()))
        ends = np.cumsum(pc.list_value_length(split).to_numpy())
        return pc.binary_join(pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]).astype(np.int32)), fixed), "\n")


def changed_lines(before: pa.Array, after: pa.Array) -> pa.Array:
    """The spans of the lines that differ between texts of equally many lines."""
    return pa.array([_spans(a.split("\n"), b.split("\n")) for a, b in zip(before.to_pylist(), after.to_pylist(), strict=True)], SPANS)


def _spans(before: list[str], after: list[str]) -> list[dict[str, int]]:
    ends = accumulate(len(line) + 1 for line in after)
    return [{"start": end - 1 - len(b), "end": end - 1} for a, b, end in zip(before, after, ends, strict=True) if a != b]


@lru_cache(maxsize=1)
def _fixer() -> Callable[[str], str]:
    """ftfy's repair of one line; a line that would end as no valid text stays."""
    from ftfy import TextFixerConfig, fix_encoding

    config = TextFixerConfig(explain=False)

    def fix(line: str) -> str:
        fixed = fix_encoding(line, config)
        return line if SURROGATE.search(fixed) else fixed

    return fix
