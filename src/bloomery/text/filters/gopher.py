"""`GopherQuality`: is it prose at all?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.words import Lines, Words, judged, share, word_hashes


class GopherQuality(Filter):
    """Drops documents whose words and lines are not those of running text.

    Words are those of `Words`. A punctuation mark is a word where shares are counted, but not for how many words there are and how long they
    are: so datatrove reads the paper, which does not say what a word is, and so FineWeb was made.

    Source: Rae et al. (2021), arXiv 2112.11446, section A.1.1. Departures: a line is one that is not blank, and stop words count in any case.
    """

    min_words: int | None = 50
    """Words that are not symbols, at least."""
    max_words: int | None = 100_000
    """Words that are not symbols, at most."""
    min_mean_word_chars: float | None = 3
    """Their mean length, at least, in characters."""
    max_mean_word_chars: float | None = 10
    """Their mean length, at most."""
    max_symbols_per_word: float | None = 0.1
    """Hash signs per word, and likewise ellipses."""
    max_bullet_lines: float | None = 0.9
    """Share of lines that begin with a bullet or a dash."""
    max_ellipsis_lines: float | None = 0.3
    """Share of lines that end in an ellipsis."""
    min_alpha_words: float | None = 0.8
    """Share of words with a letter in them."""
    min_stop_words: int | None = 2
    """How many different stop words there are at least."""
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    """The paper's, for English; other languages need their own."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        text = judged(batch.column("text"))
        words, lines = Words.of(text, fold=True), Lines.of(text)
        plain, all_words = words.total(~words.symbol), words.counts
        ellipses = pc.add(pc.count_substring(text, "..."), pc.count_substring(text, "…"))
        begun, ended = pc.utf8_ltrim_whitespace(lines.texts), pc.utf8_rtrim_whitespace(lines.texts)
        bullets = lines.total(pc.or_(pc.starts_with(begun, "•"), pc.starts_with(begun, "-")))
        trailing = lines.total(pc.or_(pc.ends_with(ended, "..."), pc.ends_with(ended, "…")))
        return Verdicts.by_measures(batch, [
            Measure(name="words", values=pa.array(plain, pa.float64()), low=self.min_words, high=self.max_words),
            Measure(
                name="mean_word_chars", values=share(words.total(words.chars * ~words.symbol), plain),
                low=self.min_mean_word_chars, high=self.max_mean_word_chars,
            ),
            Measure(name="hashes_per_word", values=share(pc.count_substring(text, "#"), all_words), high=self.max_symbols_per_word),
            Measure(name="ellipses_per_word", values=share(ellipses, all_words), high=self.max_symbols_per_word),
            Measure(name="bullet_lines", values=share(bullets, lines.counts), high=self.max_bullet_lines),
            Measure(name="ellipsis_lines", values=share(trailing, lines.counts), high=self.max_ellipsis_lines),
            Measure(name="alpha_words", values=share(words.total(words.letters > 0), all_words), low=self.min_alpha_words),
            Measure(name="stop_words", values=pa.array(self._stop_words(words), pa.float64()), low=self.min_stop_words),
        ])  # fmt: skip

    def _stop_words(self, words: Words) -> np.ndarray:
        found = np.zeros(len(words.offsets) - 1)
        for hashes in word_hashes(self.stop_words, fold=True):
            found += words.total(words.hash == hashes[0]) > 0
        return found
