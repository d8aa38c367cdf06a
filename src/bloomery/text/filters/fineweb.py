"""`FineWebQuality`: lists, menus and pages that repeat their lines."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.words import Lines, Words, chars, judged, share

SENTENCE_ENDS = ".!?։؝؞؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶។៕᠃᠉᥄᥅᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡"
"""Unicode's characters with the property Sentence_Terminal, those of dead scripts left out."""


class FineWebQuality(Filter):
    """Drops documents whose lines are not sentences: few end in a full stop, most are short, some repeat, or they are many for few words.

    Source: Penedo et al. (2024), arXiv 2406.17557, section 3.6, whose thresholds were chosen by training on what they leave; the share of
    line breaks is in their published code. Departures: none known; lines are parted by "\\n" alone, and words are those of `Words`.
    """

    min_ended_lines: float | None = 0.12
    """Share of lines that end in a full stop, an exclamation or a question mark, of any script."""
    max_short_lines: float | None = 0.67
    """Share of lines that are short."""
    short_line_chars: int = 30
    """What is short: this many characters or fewer."""
    max_repeated_line_chars: float | None = 0.01
    """Share of characters in lines that their document has had before."""
    max_breaks_per_word: float | None = 0.3
    """Line breaks per word."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        text = judged(batch.column("text"))
        lines, words = Lines.of(text), Words.of(text)
        breaks = pc.count_substring(text, "\n")
        ended = pc.is_in(pc.utf8_slice_codeunits(lines.texts, -1), pa.array(list(SENTENCE_ENDS)))
        size = chars(lines.texts)
        return Verdicts.by_measures(batch, [
            Measure(name="lines", values=pa.array(lines.counts, pa.float64()), low=1),
            Measure(name="ended_lines", values=share(lines.total(ended), lines.counts), low=self.min_ended_lines),
            Measure(name="short_lines", values=share(lines.total(size <= self.short_line_chars), lines.counts), high=self.max_short_lines),
            Measure(
                name="repeated_line_chars", values=share(lines.total(size * lines.repeated()), chars(text) - breaks.to_numpy()),
                high=self.max_repeated_line_chars,
            ),
            Measure(name="breaks_per_word", values=share(breaks, words.counts), high=self.max_breaks_per_word),
        ])  # fmt: skip
