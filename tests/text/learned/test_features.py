"""Words and n-grams by columns: the same as one by one, however texts are cut up."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.learned import features
from bloomery.text.learned.features import Bags, bags, mixed, portions, words

TEXTS = st.lists(st.text(alphabet="abĀ 1\n.,-'ßİ日本ก\U0001f600\x00", max_size=12), max_size=6)


def split(text):
    return words(pa.array([text])).hashes.tolist()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0), (" \n\t", 0), ("a", 1), ("Hello, World!", 4), ("don't", 3), ("日本語", 3), ("x1y", 1), ("über-groß", 3), ("a\u200bb", 2),
        ("naïve naïve", 2), ("\U0001f600\U0001f600", 2), ("ไทย", 3), ("Привет мир", 2),
    ],
)  # fmt: skip
def test_a_text_is_split_into_its_words(text, count):
    assert len(split(text)) == count


def test_words_are_alike_whatever_their_case_and_place():
    assert split("Ärger the ÄRGER") == [*split("ärger"), *split("THE"), *split("ärger")]
    assert split("ab") != split("ba")
    assert len(set(split("a aa aaa aaaa " + "a" * 64 + " " + "a" * 65))) == 6


def test_numbers_of_one_length_are_one_word_where_digits_do_not_count():
    one, two = words(pa.array(["in 1066 or 1492", "1a"]), digits=False), words(pa.array(["in 1971 or 2024", "7A"]), digits=False)
    assert (one.hashes == two.hashes).all()
    assert split("1066") != split("1492")


def test_different_words_have_different_hashes():
    many = [f"{a}{b}{c}" for a in "abcdefghij" for b in "klmnopqrstuv" for c in range(1000)]
    assert len(set(split(" ".join(many)))) == len(many)


@settings(max_examples=20, deadline=None)
@given(TEXTS)
def test_texts_do_not_know_of_each_other(texts):
    together = words(pa.array(texts, pa.string()))
    assert [together.hashes[a:b].tolist() for a, b in zip(together.offsets, together.offsets[1:], strict=False)] == [split(t) for t in texts]


def test_long_texts_are_cut_up_between_words(monkeypatch):
    text = "some words of a long text, " * 40
    whole = split(text), bags(pa.array([text, "b"]), 1 << 20, char_ngrams=(2, 3))
    monkeypatch.setattr(features, "PIECE_CHARS", 17)
    assert split(text) == whole[0]
    again = bags(pa.array([text, "b"]), 1 << 20, char_ngrams=(2, 3))
    assert all((a == b).all() for a, b in zip(again, whole[1], strict=True))


def test_null_is_no_words():
    assert words(pa.array(["a", None, "b"])).offsets.tolist() == [0, 1, 1, 2]


def naive_grams(text, low, high):
    """The character n-grams of each word, its ends counting."""
    padded = [f"<{word}>" for word in text.split()]
    return Counter(word[i : i + n] for word in padded for n in range(low, high + 1) for i in range(len(word) - n + 1))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(alphabet="abc ", max_size=14), min_size=1, max_size=4))
def test_character_ngrams_are_those_of_a_loop(texts):
    whole, plain = bags(pa.array(texts), 1 << 40, char_ngrams=(2, 4)), bags(pa.array(texts), 1 << 40)
    for row, text in enumerate(texts):
        counts = [dict(zip(*(c[b.offsets[row] : b.offsets[row + 1]].tolist() for c in b[:2]), strict=True)) for b in (whole, plain)]
        rest = [n for key, n in counts[0].items() if key not in counts[1]]
        assert sorted(rest) == sorted(naive_grams(text, 2, 4).values())


def test_pairs_do_not_reach_over_the_end_of_a_text():
    assert np.diff(bags(pa.array(["a b a b", "a", "", "b c"]), 1 << 40, word_ngrams=2).offsets).tolist() == [4, 1, 0, 3]
    assert np.diff(bags(pa.array(["a b c d", "a b"]), 1 << 40, word_ngrams=3).offsets).tolist() == [9, 3]


@settings(max_examples=20, deadline=None)
@given(TEXTS, st.integers(1, 9))
def test_bags_count_all_features(texts, buckets):
    bag = bags(pa.array(texts, pa.string()), buckets)
    assert (np.bincount(bag.rows(), bag.counts, len(texts)) == np.diff(words(pa.array(texts, pa.string())).offsets)).all()
    assert (bag.indices < buckets).all()


def test_rows_can_be_taken_and_scaled():
    bag = Bags(np.array([1, 4, 2]), np.array([3, 4, 5], np.float32), np.array([0, 2, 2, 3]))
    taken = bag.take(np.array([2, 0, 1]))
    assert (taken.indices.tolist(), taken.counts.tolist(), taken.offsets.tolist()) == ([2, 1, 4], [5, 3, 4], [0, 1, 3, 3])
    assert np.allclose(bag.unit().counts, [0.6, 0.8, 1])


@settings(max_examples=20, deadline=None)
@given(TEXTS)
def test_portions_are_the_whole(texts):
    array = pa.array(texts, pa.string())
    assert [t for portion in portions(array) for t in portion.to_pylist()] == texts


def test_portions_are_small(monkeypatch):
    monkeypatch.setattr(features, "PORTION_BYTES", 10)
    assert [len(p) for p in portions(pa.array(["a" * 4] * 5 + ["b" * 30] + ["", None, "c"]))] == [2, 2, 1, 1, 3]


def test_the_mixer_loses_nothing():
    assert len(np.unique(mixed(np.arange(10_000, dtype=np.uint64)))) == 10_000


def test_hashes_stay_what_they_are():  # artifacts hold them: a change here needs a new contract of the stages that learn
    assert split("the") == [7453225073468840131]
