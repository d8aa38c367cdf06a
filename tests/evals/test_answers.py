"""Words of answers, beside the official definition."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.evals.answers import normalised, same_words, shared_words

WORDS = ["The", "a", "an", "cat", "Cat!", "theatre", "U.S.", "10,000", "—", "naïve", "  ", "sat-on", "'s"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


def official_normalised(s):
    """`normalize_answer` of SQuAD's evaluate-v1.1, whose functions are named as there."""

    def remove_articles(text):
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def remove_punc(text):
        return "".join(ch for ch in text if ch not in set(string.punctuation))

    return " ".join(remove_articles(remove_punc(s.lower())).split())


def official_f1(prediction, ground_truth):
    prediction_tokens, ground_truth_tokens = official_normalised(prediction).split(), official_normalised(ground_truth).split()
    common = Counter(prediction_tokens) & Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision, recall = 1.0 * num_same / len(prediction_tokens), 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_words_are_counted_as_squad_does(said, expected):
    assert normalised(said) == official_normalised(said)
    assert same_words(expected, said) == max(official_normalised(said) == official_normalised(one) for one in expected)
    assert shared_words(expected, said) == pytest.approx(max(official_f1(said, one) for one in expected))


def test_words_by_hand():
    assert same_words(["The cat sat."], "cat  sat") == 1
    assert shared_words(["the big cat", "a dog"], "cat cat dog") == pytest.approx(2 / 4)  # 2·1 / (1 + 3) beside "dog"; 2·1 / 5 beside "big cat"
    assert shared_words([""], "") == 0
