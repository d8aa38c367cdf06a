"""Words as numbers: equal words get equal hashes, other words others, and every word's place is known."""

import unicodedata

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.shingles import WORD_BYTES, shingles, whole_hashes, windows, windows_at, words_of

characters = st.sampled_from("aBé ß.,'\n\u00a0日本カ語Я“x1\U0001f600\u0301") | st.characters(exclude_categories=["Cs"])
texts = st.lists(st.text(characters, max_size=30), max_size=6)


def lowered(character):
    small = character.lower()
    return small if len(small) == 1 and len(small.encode()) == len(character.encode()) and ord(character) < 0x10000 else character


def alone(character):
    return any(first <= ord(character) <= last for first, last in ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)))


def naive_words(text):
    words, inside = [], False
    for character in text:
        word = unicodedata.category(character)[0] in "LNM" or ord(character) >= 0x10000
        if not word:
            inside = False
        elif alone(character) or not inside:
            words.append(lowered(character))
            inside = not alone(character)
        else:
            words[-1] += lowered(character)
    return words


@settings(deadline=None)
@given(texts)
def test_words_are_where_a_reader_of_characters_finds_them(batch):
    words = words_of(pa.array(batch, pa.string()))
    for row, text in enumerate(batch):
        mine = slice(words.bounds[row], words.bounds[row + 1])
        found = [words.data[a:b].tobytes().decode() for a, b in zip(words.starts[mine], words.ends[mine], strict=True)]
        assert ["".join(map(lowered, word)) for word in found] == naive_words(text)


@settings(deadline=None)
@given(texts)
def test_hashes_are_equal_where_words_are(batch):
    words = words_of(pa.array(batch, pa.string()))
    flat = [word for text in batch for word in naive_words(text)]
    assert len(flat) == len(words.hashes)
    assert len(set(flat)) == len(set(words.hashes.tolist())) == len(set(zip(flat, words.hashes.tolist(), strict=True)))


@settings(deadline=None)
@given(texts, st.integers(1, 4))
def test_shingles_are_runs_of_words_within_a_text(batch, n):
    hashes, bounds = shingles(words_of(pa.array(batch, pa.string())), n)
    expected = []
    for row, text in enumerate(batch):
        words = naive_words(text)
        runs = [tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))] if words else []
        assert bounds[row + 1] - bounds[row] == len(runs)
        expected += runs
    assert len(set(expected)) == len(set(hashes.tolist())) == len(set(zip(expected, hashes.tolist(), strict=True)))


@settings(deadline=None)
@given(texts, st.integers(0, 6))
def test_a_slice_of_a_batch_has_the_same_words(batch, start):
    whole = pa.array(["before", *batch, "after"], pa.string())
    cut = words_of(whole[1 + start : len(batch) + 1])
    assert np.array_equal(cut.hashes, words_of(pa.array(batch[start:], pa.string())).hashes)


def test_long_words_are_cut_and_no_two_prefixes_alike():
    lengths = [*range(1, 70), 128, 129, 200]
    words = words_of(pa.array(["x" * n for n in lengths]))
    assert np.diff(words.bounds).tolist() == [-(-n // WORD_BYTES) for n in lengths]
    wholes = whole_hashes(words, 10)
    assert len(set(wholes.tolist())) == len(lengths)


def test_windows_and_whole_texts_hash_alike():
    words = words_of(pa.array(["one two three", "zero", "two three"]))
    assert windows(words.hashes, 2)[1] == whole_hashes(words, 2)[2]


def test_windows_at_some_places_are_those_of_all(monkeypatch):
    monkeypatch.setattr("bloomery.text.shingles.CHUNK", 4)
    hashes = words_of(pa.array(["a b c d e f g h i j k"])).hashes
    for n in (1, 5):
        assert np.array_equal(windows_at(hashes, np.array([0, 6, 3]), n), windows(hashes, n)[[0, 6, 3]])


def test_hashes_never_change():
    words = words_of(pa.array(["Emma Woodhouse, handsome, clever, and rich — très CHÈRE 日本"]))
    assert [hex(h) for h in words.hashes[[0, 1, -1]].tolist()] == ["0x59dab098b1a8b160", "0xd4ee8078fb93e11b", "0xb1c4e7ac73927e1f"]
