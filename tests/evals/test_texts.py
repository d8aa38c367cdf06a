"""Figures of texts: worked out by hand, and beside the packages that define them where those are there."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.evals.texts import bleu, chrf, common, figures_of, rouge, words_13a

WORDS = ["the", "cat", "sat", "on", "a", "mat", "U.S.", "3,000", "1-2", "(yes)", "don't", "&quot;no&quot;", "naïve", "end.", "$5", "well-known"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5)


def test_words_are_parted_at_signs_but_not_within_numbers():
    assert words_13a("He paid $3,000.50, (twice) -- &quot;no&quot; 1-2.\n") == [
        "He", "paid", "$", "3,000.50", ",", "(", "twice", ")", "--", '"', "no", '"', "1", "-", "2", ".",
    ]  # fmt: skip


def test_bleu_by_hand():
    expected, said = ["a b c d e f", "g h"], ["a b c d x", "g h"]
    p = (6 / 7, 4 / 5, 2 / 3, 1 / 2)
    assert bleu(expected, said) == pytest.approx(100 * math.exp(1 - 8 / 7) * math.prod(p) ** 0.25)
    assert bleu(["a b c d"], ["a b c x"]) == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25)  # 4-grams: 1 / (2 · 1)
    assert bleu(["a b c d"], ["a x c y"]) == pytest.approx(100 * (2 / 4 / (2 * 3) / (4 * 2) / (8 * 1)) ** 0.25)
    assert bleu(["a b c d"], ["x y z w"]) == 0
    assert bleu(["a b"], ["a b"]) == 0  # there is no 3-gram


def test_chrf_by_hand():
    assert chrf(["ab c"], ["abd"]) == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)  # of three orders, P = R
    assert chrf(["a"], ["aa"]) == pytest.approx(100 * 5 * 0.5 / (4 * 0.5 + 1))
    assert chrf(["ab"], ["cd"]) == 0


def test_rouge_by_hand():
    found = rouge(["The cat sat, on a mat."], ["the cat on mat"])
    assert found["rouge1"] == pytest.approx(100 * 2 * 4 / 10)
    assert found["rouge2"] == pytest.approx(100 * 2 * 1 / 8)
    assert found["rougeL"] == pytest.approx(100 * 2 * 4 / 10)
    assert rouge(["Привет мир"], ["привет"])["rouge1"] == pytest.approx(100 * 2 / 3)
    assert rouge(["", "a"], ["a", "a"])["rouge1"] == pytest.approx(50)


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_the_longest_common_subsequence_is_the_longest(one, other):
    def slow(i, j):
        if i == len(one) or j == len(other):
            return 0
        return 1 + slow(i + 1, j + 1) if one[i] == other[j] else max(slow(i + 1, j), slow(i, j + 1))

    assert common(one, other) == slow(0, 0)


@given(PAIRS)
def test_all_is_between_nothing_and_all_and_the_same_is_all(pairs):
    expected, said = zip(*pairs, strict=True)
    assert all(0 <= value <= 100 + 1e-9 for value in figures_of(expected, said).values())
    same = figures_of(expected, expected)
    assert same["exact"] == 1
    longest = max(len(words_13a(text)) for text in expected)
    assert same["bleu"] == pytest.approx(100 if longest >= 4 else 0)
    if any(expected):
        assert same["chrf"] == pytest.approx(100)


@given(PAIRS)
def test_bleu_and_chrf_are_sacrebleus(pairs):
    sacrebleu = pytest.importorskip("sacrebleu", reason="parity needs sacrebleu")
    expected, said = map(list, zip(*pairs, strict=True))
    assert bleu(expected, said) == pytest.approx(sacrebleu.corpus_bleu(said, [expected]).score, abs=1e-9)
    assert chrf(expected, said) == pytest.approx(sacrebleu.corpus_chrf(said, [expected]).score, abs=1e-9)


def test_bleu_and_chrf_of_noise_are_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu", reason="parity needs sacrebleu")
    rng = random.Random(0)
    signs = [chr(i) for i in range(32, 127)] + ["\n", "\t", "é", "…", "—", "字"]
    for _ in range(50):
        expected = ["".join(rng.choices(signs, k=rng.randint(0, 60))) for _ in range(5)]
        said = ["".join(c if rng.random() < 0.9 else rng.choice(signs) for c in text) for text in expected]
        assert bleu(expected, said) == pytest.approx(sacrebleu.corpus_bleu(said, [expected]).score, abs=1e-9)
        assert chrf(expected, said) == pytest.approx(sacrebleu.corpus_chrf(said, [expected]).score, abs=1e-9)


@given(PAIRS)
def test_rouge_is_rouge_scores_where_words_are_ascii(pairs):
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="parity needs rouge-score")
    pairs = [tuple(text.replace("naïve", "naive") for text in pair) for pair in pairs]
    theirs = scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    expected, said = zip(*pairs, strict=True)
    scores = [theirs.score(want, have) for want, have in pairs]
    for name, value in rouge(expected, said).items():
        assert value == pytest.approx(100 * sum(one[name].fmeasure for one in scores) / len(scores))
