"""`Words` and `Lines` find what a loop over characters finds."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.filters import words as module
from bloomery.text.filters.words import Lines, Words, judged, occurrences, spans_at, word_hashes
from tests.text.filters import naive


def split(texts):
    words = Words.of(pa.array(texts, pa.string()))
    found = [[] for _ in texts]
    for row, start, chars in zip(words.row, words.start, words.chars, strict=True):
        found[row].append(texts[row][start : start + chars])
    return found


@pytest.mark.parametrize(("text", "expected"), [
    ("I don't, he's.", ["I", "don't", ",", "he's", "."]), ("U.S. 1,000.5 3.14.", ["U.S", ".", "1,000.5", "3.14", "."]),
    ("wait... -- what?!", ["wait", "...", "--", "what", "?", "!"]), ("漢字 ab", ["漢", "字", "ab"]), ("e\u0301té", ["e\u0301té"]),
    ("", []), (" \n", []),
])  # fmt: skip
def test_words(text, expected):
    assert split([text]) == [expected]


@settings(deadline=None)
@given(st.lists(naive.texts, max_size=5))
def test_words_are_those_of_a_loop_over_characters(texts):
    expected = [naive.words(text) for text in texts]
    assert split(texts) == expected
    words = Words.of(pa.array(texts, pa.string()))
    flat = [word for row in expected for word in row]
    assert words.symbol.tolist() == [naive.symbol(word) for word in flat]
    same = {}
    assert all(same.setdefault(word, code) == code for word, code in zip(flat, words.hash.tolist(), strict=True))
    assert len(set(same.values())) == len(same)


@settings(deadline=None, max_examples=30)
@given(st.lists(naive.texts, min_size=1, max_size=4), st.integers(5, 30))
def test_long_texts_are_cut_where_it_does_not_show(texts, slab):
    texts = [" ".join([text.replace("\n", " "), "tail of some words"] * 3) for text in texts]
    texts = [" ".join(word[:4] for word in text.split(" ")) for text in texts]
    whole = Words.of(pa.array(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLAB", slab)
        cut = Words.of(pa.array(texts))
    for name in ("offsets", "start", "chars", "hash", "letters", "digits"):
        assert getattr(whole, name).tolist() == getattr(cut, name).tolist()


def test_words_longer_than_a_slab_are_cut_at_the_same_place_in_any_batch():
    long = "a" * (module.SLAB + 5)
    alone, beside = Words.of(pa.array([long])), Words.of(pa.array(["x " * 100, long]))
    assert alone.chars.tolist() == beside.chars[100:].tolist() == [module.SLAB, 5]
    assert alone.hash.tolist() == beside.hash[100:].tolist()


def test_folded_words_differ_by_case_no_more():
    plain, folded = word_hashes(["Éa", "éA", "b"]), word_hashes(["Éa", "éA", "b"], fold=True)
    assert plain[0] != plain[1]
    assert folded[0] == folded[1] != folded[2]


@settings(deadline=None)
@given(st.lists(naive.texts, max_size=4), st.lists(st.lists(st.sampled_from(["a", "b", "the"]), min_size=1, max_size=3), max_size=4))
def test_occurrences_are_those_of_a_search_at_every_word(texts, phrases):
    words = Words.of(pa.array(texts, pa.string()))
    at, sizes = occurrences(words, word_hashes([" ".join(phrase) for phrase in phrases]))
    expected, start = set(), 0
    for tokens in map(naive.words, texts):
        expected |= {(start + i, len(p)) for p in phrases for i in range(len(tokens)) if tokens[i : i + len(p)] == p}
        start += len(tokens)
    assert set(zip(at.tolist(), sizes.tolist(), strict=True)) == expected
    assert np.all(np.diff(at) >= 0)
    assert len(spans_at(words, at, sizes)) == len(texts)


@settings(deadline=None)
@given(st.lists(naive.texts, max_size=4), st.sampled_from(["\n", "\n\n"]))
def test_lines_and_their_repetitions_are_those_of_a_loop(texts, between):
    lines = Lines.of(pa.array(texts, pa.string()), between)
    again = lines.repeated()
    for i, text in enumerate(texts):
        expected = [line if between == "\n" else line.strip("\n") for line in text.split(between)]
        expected = [line for line in expected if line.strip(" \n\t\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000") != ""]
        mine = lines.texts.filter(pa.array(lines.row == i)).to_pylist()
        assert mine == [line for line in expected if line in set(mine)]
        assert sorted(lines.texts.filter(pa.array((lines.row == i) & again)).to_pylist()) == sorted(naive.repeated(mine))
    assert lines.counts.sum() == len(lines.texts)


def test_of_long_texts_the_beginning_is_judged(monkeypatch):
    texts = pa.array(["é" * 9, "short", ""])
    assert judged(texts) is texts
    monkeypatch.setattr(module, "JUDGED_CHARS", 7)
    assert judged(texts).to_pylist() == ["é" * 7, "short", ""]
