"""`Normalise`: one spelling for what looks the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal
from unicodedata import is_normalized, normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Verdicts, with_texts

INVISIBLE = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\x{FEFF}\\x{FFFE}\\x{FFFF}]"
"""Control characters but tab and newline, byte order marks, and what Unicode says is no character."""


class Normalise(Filter):
    """Rewrites newlines as "\\n", removes byte order marks and control characters (NUL among them), and composes accents.

    Source: Unicode Standard Annex 15, form NFC; line ends as in XML 1.0, section 2.11.
    """

    form: Literal["NFC", "NFKC", "none"] = "NFC"
    """Unicode's form: NFC joins letters and accents; NFKC also unfolds ligatures and widths; "none" leaves all as it is."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        before = batch.column("text")
        text = self._normal(before)
        messages = batch.column("messages")
        contents = self._normal(messages.flatten().field("content")) if messages.null_count < len(messages) else None
        changed = pc.not_equal(before, text)
        reasons = pc.if_else(changed, pa.scalar("newlines, control characters or Unicode form"), pa.scalar(None, pa.string()))
        kept = Verdicts.keep(with_texts(batch, text, contents))
        return Verdicts(batch=kept.batch, reasons=reasons, dropped=kept.dropped)

    def _normal(self, text: pa.Array) -> pa.Array:
        text = where(pc.match_substring(text, "\r"), text, _newlines)
        text = where(pc.match_substring_regex(text, INVISIBLE), text, lambda t: pc.replace_substring_regex(t, INVISIBLE, ""))
        if self.form == "none":
            return text
        return where(pc.invert(pc.string_is_ascii(text)), text, partial(_composed, form=self.form))


def where(mask: pa.Array, text: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """The texts, with `change` applied to those that the mask picks; the others are not copied one by one."""
    mask = pc.fill_null(mask, False)
    return pc.replace_with_mask(text, mask, change(text.filter(mask))) if pc.any(mask).as_py() else text


def _composed(text: pa.Array, form: Literal["NFC", "NFKC"]) -> pa.Array:
    # Python's quick check reads a text ten times as fast as a normalisation writes it, and hardly any text needs one
    wrong = np.array([not is_normalized(form, value) for value in text.to_pylist()], bool)
    return where(pa.array(wrong), text, lambda t: pa.array([normalize(form, value) for value in t.to_pylist()], pa.string()))


def _newlines(text: pa.Array) -> pa.Array:
    return pc.replace_substring(pc.replace_substring(text, "\r\n", "\n"), "\r", "\n")
