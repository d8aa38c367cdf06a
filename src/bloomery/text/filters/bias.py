"""`Bias`: people named by what they are, with contempt beside it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa

from bloomery.text.filters.filter import Filter, Measure, Verdicts
from bloomery.text.filters.words import Words, among, judged, occurrences, share, spans_at, word_hashes

GROUPS = (
    "women", "woman", "girls", "men", "males", "females", "gays", "gay people", "lesbians", "homosexuals", "bisexuals", "transgender people",
    "trans people", "blacks", "black people", "whites", "white people", "asians", "latinos", "hispanics", "mexicans", "africans", "arabs",
    "indians", "chinese people", "jews", "jewish people", "muslims", "christians", "hindus", "atheists", "catholics", "immigrants",
    "migrants", "refugees", "foreigners", "gypsies", "roma people", "the disabled", "disabled people", "the elderly", "old people",
    "the poor", "poor people", "the homeless",
)  # fmt: skip
CONTEMPT = (
    "inferior", "lazy", "stupid", "dumb", "dirty", "filthy", "disgusting", "subhuman", "animals", "vermin", "savages", "parasites",
    "criminals", "thieves", "terrorists", "rapists", "liars", "worthless", "useless", "unintelligent", "primitive", "uncivilised",
    "uncivilized", "degenerate", "degenerates", "scum", "trash", "evil", "plague", "should die", "must die", "go back",
    "belong in the kitchen", "can't be trusted", "cannot be trusted", "not human", "are ruining", "should be deported", "should be killed",
    "should be banned",
)  # fmt: skip
FEMALE = ("she", "her", "hers", "herself")
MALE = ("he", "him", "his", "himself")
SENTENCE_ENDS = (".", "!", "?", "…", "...")


class Bias(Filter):
    """Drops documents in which groups of people and words of contempt often share a sentence; the spans show where.

    Naming a group is not enough, since who writes about discrimination names it most: a word of contempt has to stand near, in the same
    sentence. Quotations and reports count all the same, so the bound is a rate. On record for every document, without a bound: how often
    groups are named at all, and the share of female among gendered pronouns. English only; the lists are ours and short.

    Source: after Dixon et al. (2018), AIES, on why identity terms alone mislead, and Sap et al. (2020), arXiv 1911.03891, on groups and what is
    implied of them; pronouns as Touvron et al. (2023), arXiv 2307.09288, section 4.1.
    """

    max_contempt: float | None = 0.005
    """Groups with contempt beside them, per word."""
    within_words: int = 8
    """How near the two have to be, in words."""

    def check(self) -> None:
        if self.within_words < 1:
            raise self.refuse("within_words", "is below 1; 8 is a clause")

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        words = Words.of(judged(batch.column("text")), fold=True)
        groups, contempt, female, male, ends = _phrases()
        at, sizes = occurrences(words, groups)
        beside = self._beside(words, at, occurrences(words, contempt)[0], np.sort(np.concatenate(ends)))
        plain = words.total(~words.symbol)

        def count(phrases: tuple[np.ndarray, ...]) -> np.ndarray:
            return words.total(among(words.hash, np.sort(np.concatenate(phrases))))

        def per_row(places: np.ndarray) -> np.ndarray:
            return np.bincount(np.searchsorted(words.offsets, places, "right") - 1, minlength=batch.num_rows)

        her, his = count(female), count(male)
        return Verdicts.by_measures(batch, [
            Measure(name="contempt", values=share(per_row(at[beside]), plain), high=self.max_contempt),
            Measure(name="groups_named", values=share(per_row(at), plain)),
            Measure(name="female_pronouns", values=share(her, her + his)),
        ], spans_at(words, at[beside], sizes[beside]))

    def _beside(self, words: Words, groups: np.ndarray, contempt: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Which groups have a word of contempt near them, in their own sentence."""
        if not len(contempt):
            return np.zeros(len(groups), bool)
        sentence = np.cumsum(among(words.hash, ends)) + words.row  # grows at each end and at each new text
        after = np.searchsorted(contempt, groups)
        near = np.zeros(len(groups), bool)
        for other in (contempt[np.minimum(after, len(contempt) - 1)], contempt[np.maximum(after - 1, 0)]):
            near |= (np.abs(other - groups) <= self.within_words) & (sentence[other] == sentence[groups])
        return near


@lru_cache(maxsize=1)
def _phrases() -> tuple[tuple[np.ndarray, ...], ...]:
    return tuple(tuple(word_hashes(phrases, fold=True)) for phrases in (GROUPS, CONTEMPT, FEMALE, MALE, SENTENCE_ENDS))
