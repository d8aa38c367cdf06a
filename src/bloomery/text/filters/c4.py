"""`C4Quality`: keeps the lines that are sentences, and the pages that have some."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Measure, Verdicts, with_texts

CITATION = r"\[\d*\]|\[edit\]|\[citation needed\]"
UNWANTED = "javascript|terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"
SENTENCE_END = r"""[.!?…]+["'”’)\]]*(?:\s|$)"""
ABBREVIATION = r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|[A-Z])\.\s"


class C4Quality(Filter):
    """Takes out lines that are no sentences, and drops pages with placeholder text, with curly brackets, or with too few sentences left.

    A line stays if it ends in one of `. ? ! " '` and not in an ellipsis, has enough words, none of them overlong, speaks neither of
    JavaScript nor of cookies and terms of use; marks of citations ("[3]", "[edit]") are taken out of it. Only lines that stay so far are
    looked at for "lorem ipsum" and "{". Of a conversation, whose lines belong to turns, the page is judged and no line taken out.

    For the paper's list of bad words, put `Toxicity(max_listed=0, words=…)` behind it.

    Source: Raffel et al. (2020), arXiv 1910.10683, section 2.2, and the rules on overlong words, policies and citations from their published
    code (TensorFlow Datasets, c4_utils). The paper's later version asks for 3 sentences and 5 words, its first for 5 and 3. Departures:
    white space around a line goes, and its words are counted, after its citations went; a sentence is an end mark before a blank or a
    line's end, initials and titles aside.
    """

    min_sentences: int | None = 5
    """Sentences that the lines left must have, at least."""
    min_line_words: int = 3
    """Words that a line must have, at least, parted by white space."""
    max_word_chars: int = 1000
    """What no word of a line may be longer than."""
    line_ends: tuple[str, ...] = (".", "?", "!", '"', "'")
    """What a line must end in; nothing lets all lines stay."""

    def check(self) -> None:
        if any(len(end) != 1 for end in self.line_ends):
            raise self.refuse("line_ends", "must be single characters")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        text = batch.column("text")
        split = pc.split_pattern(text, "\n")
        row = np.repeat(np.arange(len(text)), pc.list_value_length(split).to_numpy())
        lines = pc.utf8_trim_whitespace(pc.replace_substring_regex(split.flatten(), CITATION, ""))
        good = self._sentence(lines)
        lines, row = lines.filter(good), row[good.to_numpy(zero_copy_only=False)]
        lower = pc.utf8_lower(lines)
        left = pc.invert(pc.match_substring_regex(lower, UNWANTED))

        def count(values: pa.Array) -> pa.Array:
            return pa.array(np.bincount(row, weights=values.to_numpy(zero_copy_only=False), minlength=len(text)))

        ends = pc.subtract(pc.count_substring_regex(lines, SENTENCE_END), pc.count_substring_regex(lines, ABBREVIATION))
        sentences = pc.max_element_wise(ends, pa.scalar(1, pa.int32()))
        verdicts = Verdicts.by_measures(batch, [
            Measure(name="lorem_ipsum", values=count(pc.match_substring(lower, "lorem ipsum")), high=0),
            Measure(name="curly_brackets", values=count(pc.match_substring(lines, "{")), high=0),
            Measure(name="sentences", values=count(pc.if_else(left, sentences, 0)), low=self.min_sentences),
        ])
        plain = pc.and_(pc.is_null(batch.column("messages")), pc.invert(verdicts.dropped))
        return without_lines(verdicts, plain, lines.filter(left), row[left.to_numpy(zero_copy_only=False)])

    def _sentence(self, lines: pa.Array) -> pa.Array:
        """Whether each line ends and counts as one."""
        words = pc.utf8_split_whitespace(lines)
        counts = pc.list_value_length(words).to_numpy()
        longest = np.maximum.reduceat(pc.utf8_length(words.flatten()).to_numpy(), np.cumsum(counts) - counts) if len(lines) else counts
        good = pa.array((counts >= self.min_line_words) & (longest <= self.max_word_chars))
        if self.line_ends:
            ended = pc.is_in(pc.utf8_slice_codeunits(lines, -1), pa.array(list(self.line_ends)))
            good = pc.and_(good, pc.and_not(ended, pc.ends_with(lines, "...")))
        return pc.and_not(good, pc.match_substring_regex(lines, CITATION))  # one within another: no citation, and no prose


def without_lines(verdicts: Verdicts, plain: pa.Array, lines: pa.Array, row: np.ndarray) -> Verdicts:
    """The verdicts, with the rows that `plain` picks rewritten to the lines that are left of them."""
    batch = verdicts.batch
    before = batch.column("text")
    offsets = np.searchsorted(row, np.arange(len(before) + 1)).astype(np.int32)
    after = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), lines), "\n")
    text = pc.if_else(plain, after, before)
    changed = pc.not_equal(before, text)
    reasons = pc.if_else(changed, "lines that are no sentences", verdicts.reasons)
    return Verdicts(
        batch=with_texts(batch, text), reasons=reasons, dropped=verdicts.dropped, values=verdicts.values, threshold=verdicts.threshold,
        measures=verdicts.measures,
    )  # fmt: skip
