"""Answers to questions beside those that were expected: exactly equal, or by their words, as SQuAD counts them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Without case, signs of ASCII, articles, and blanks but one between words.

    Source: Rajpurkar et al. (2016), arXiv 1606.05250, `normalize_answer` of evaluate-v1.1.
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def same_words(expected: Sequence[str], said: str) -> float:
    """1 where what was said is one of the expected answers, both `normalised`; else 0."""
    return float(any(normalised(want) == normalised(said) for want in expected))


def shared_words(expected: Sequence[str], said: str) -> float:
    """F1 of the words of what was said beside those of the expected answer that it is nearest to, both `normalised`:

        2·both / (expected + said words),  each word as often as the one has it that has it less

    Source: Rajpurkar et al. (2016), arXiv 1606.05250, `f1_score` of evaluate-v1.1, whose figure of an answer without a word is 0.
    """
    have = normalised(said).split()
    best = 0.0
    for one in expected:
        want = normalised(one).split()
        both = (Counter(want) & Counter(have)).total()
        best = max(best, 2 * both / (len(want) + len(have)) if both else 0.0)
    return best
