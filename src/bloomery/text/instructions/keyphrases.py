"""Key phrases of an English text: what it is about, for prompts that ask for such a text."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Annotated

import numpy as np
from annotated_types import Ge

from bloomery.core.config import Config
from bloomery.text.instructions.wordlists import STOP_WORDS

Count = Annotated[int, Ge(1)]

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[^\w\s]|\d+")


class KeyPhrases(Config):
    """Finds the phrases that tell what a text is about; the same ones each time."""

    count: Count = 5
    """How many phrases at most."""
    max_words: Count = 4
    """Words in a phrase at most; longer runs of content words are no phrases."""
    max_chars: Count = 20_000
    """How much of a text is looked at, from its beginning."""

    def __call__(self, text: str) -> list[str]:
        """The phrases, the most telling first, in lower case; none of a text without content words."""
        runs = content_runs(text[: self.max_chars])
        scores = self.scores(runs)
        phrases = {" ".join(run): sum(scores[word] for word in run) for run in runs if len(run) <= self.max_words}
        return sorted(phrases, key=lambda phrase: (-phrases[phrase], phrase))[: self.count]

    def scores(self, runs: list[list[str]]) -> dict[str, float]:
        """How much each word counts; a phrase counts what its words do together."""
        raise NotImplementedError


class Rake(KeyPhrases):
    """Words count deg(w) / freq(w): how many words they stand beside, for each time that they are there.

    Source: Rose et al. (2010), "Automatic keyword extraction from individual documents", section 1.2; departures: words of fewer than
    three letters and numbers end a phrase, phrases joined by stop words are left out.
    """

    def scores(self, runs: list[list[str]]) -> dict[str, float]:
        frequency = Counter(word for run in runs for word in run)
        degree: Counter[str] = Counter()
        for run in runs:
            for word in run:
                degree[word] += len(run)
        return {word: degree[word] / n for word, n in frequency.items()}


class TextRank(KeyPhrases):
    """Words count their PageRank among the words that they stand near.

    score = (1 − d) + d · Σ over neighbours of score / degree, with d = 0.85, until it stands still.

    Source: Mihalcea & Tarau (2004), "TextRank: bringing order into text", sections 2 and 3.1; departures: every content word is a vertex,
    whatever its part of speech, edges count how often two words are neighbours, and all runs of content words are candidates.
    """

    window: Count = 2
    """Words at most so far apart are neighbours; 1 is next to each other."""
    damping: float = 0.85
    """d."""

    def scores(self, runs: list[list[str]]) -> dict[str, float]:
        words = list(dict.fromkeys(word for run in runs for word in run))
        index = {word: i for i, word in enumerate(words)}
        if not words:
            return {}
        flat = np.array([index[word] for run in runs for word in run])
        near = [np.stack([flat[:-k], flat[k:]]) for k in range(1, self.window + 1)]
        a, b = np.concatenate([*near, *(pair[::-1] for pair in near)], axis=1)
        degree = np.maximum(np.bincount(a, minlength=len(words)), 1)
        score = np.ones(len(words))
        for _ in range(50):
            before, score = score, (1 - self.damping) + self.damping * np.bincount(b, (score / degree)[a], minlength=len(words))
            if np.abs(score - before).max() < 1e-6:
                break
        return dict(zip(words, score.tolist(), strict=True))


def content_runs(text: str) -> list[list[str]]:
    """Runs of content words, in lower case: what stands between stop words, signs and numbers."""
    words = [word.lower() for word in _WORD.findall(text)]
    return [list(run) for content, run in itertools.groupby(words, key=_is_content) if content]


def _is_content(word: str) -> bool:
    return len(word) > 2 and word[0].isalpha() and word.replace("’", "'").split("'")[0] not in STOP_WORDS
