"""`Suspicion`: texts that look as if a template had been filled in or a machine had translated them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.words import Lines, Words, judged, occurrences, share, spans_at, word_hashes

PLACEHOLDER = (
    r"(?i)\{\{ ?[\w. |-]{1,40} ?\}\}|\$\{[\w.]{1,40}\}|%\([a-z_]{1,30}\)s|"
    r"\[(?:your|insert|enter|company|customer|first|last|product|name of)[ _][\w ,'-]{1,40}\]|\[(?:name|city|date|company|state|address)\]|"
    r"<(?:insert|your|first|last|company|enter)[ _][\w ,'-]{1,40}>|\binsert [\w ]{2,30} here\b|lorem ipsum"
)
NOTICE = (
    r"(?i)(?:automatically|machine|auto)[- ]translated (?:from|by|into|version|text|page)|"
    r"translated (?:automatically|(?:by|with|using) (?:google|deepl|bing|yandex|a machine|machine))|"
    r"(?:maschinell|automatisch) übersetzt|übersetzt (?:von|mit) (?:google|deepl)|traducido (?:automáticamente|por google|con google)|"
    r"traduit (?:automatiquement|par google|par deepl)|tradotto automaticamente|automatisch vertaald"
)
ARTICLES, PREPOSITIONS = ("the", "a", "an"), ("of", "from", "with", "into", "at", "between", "among")
CLASHES = (
    *(f"{a} {b}" for a in ARTICLES for b in (*ARTICLES, "of", "is", "are", "was", "and", "with", "from", "to")),
    *(f"{a} {b}" for a in PREPOSITIONS for b in ("of", "is", "are", "was", "and", "into")),
    "and and", "is is", "is are", "are is", "it it", "that is is", "this the", "these the", "more better", "more easier", "can to", "must to",
    "will can",
)  # fmt: skip
WORDS_THAT_STAY = r"(?:\p{Lu}[\p{L}\p{M}\p{N}'’-]*|\p{N}[\p{N}.,:]*)(?: (?:\p{Lu}[\p{L}\p{M}\p{N}'’-]*|\p{N}[\p{N}.,:]*))*"
SENTENCE = r"""[.!?…]["'”’)\]]*\s|\n"""


class Suspicion(Filter):
    """Drops documents with blanks that were not filled in, with sentences that differ by names and numbers only, with a translator's notice,
    or with pairs of function words that English does not put together.

    `same_frame` is the share of sentences of six words or more which, once names (capitalised words) and numbers are taken out, their document
    has had before: "Find plumbers in Leeds today." `clashes` are pairs such as "the of" or "of into", which word-for-word translation leaves
    behind; they are looked for in English alone and say nothing of a good translation. The spans show the clashes.

    Source: function words out of place give machines away, Arase and Zhou (2013), ACL P13-1157; why it matters, Thompson et al. (2024), arXiv
    2401.05749. Frames, lists and thresholds are ours, set so that human text of several kinds passes.
    """

    max_placeholders: int | None = 2
    """Blanks that were not filled in: "{{name}}", "[your company]", "lorem ipsum"."""
    max_same_frame: float | None = 0.3
    """Share of longer sentences whose frame was there before; counted from five sentences on."""
    max_notices: int | None = 0
    """Phrases that say a machine translated the text."""
    max_clashes: float | None = 0.02
    """Clashing pairs of function words per word."""

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        text = judged(batch.column("text"))
        words = Words.of(text, fold=True)
        at, sizes = occurrences(words, _clashes())
        clashes = np.bincount(np.searchsorted(words.offsets, at, "right") - 1, minlength=len(text))
        return Verdicts.by_measures(batch, [
            Measure(name="placeholders", values=pc.count_substring_regex(text, PLACEHOLDER).cast(pa.float64()), high=self.max_placeholders),
            Measure(name="notices", values=pc.count_substring_regex(text, NOTICE).cast(pa.float64()), high=self.max_notices),
            Measure(name="same_frame", values=same_frame(text), high=self.max_same_frame),
            Measure(name="clashes", values=share(clashes, words.total(~words.symbol)), high=self.max_clashes),
        ], spans_at(words, at, sizes))


def same_frame(text: pa.Array) -> pa.Array:
    """The share of each text's longer sentences that repeat another's frame; null where there are fewer than five."""
    frames = Lines.of(pc.replace_substring_regex(pc.replace_substring_regex(text, SENTENCE, "\n"), WORDS_THAT_STAY, "_"))
    long = pc.greater_equal(pc.count_substring(frames.texts, " "), 5).to_numpy(zero_copy_only=False)
    row = frames.row[long]
    kept = Lines(frames.texts.filter(pa.array(long)), row, np.bincount(row, minlength=len(text)))
    shares = share(kept.total(kept.repeated()), kept.counts)
    return pc.if_else(pa.array(kept.counts >= 5), shares, None)


@lru_cache(maxsize=1)
def _clashes() -> tuple[np.ndarray, ...]:
    return tuple(word_hashes(CLASHES, fold=True))
