"""Where words, names and phrases begin."""

import numpy as np
import pytest
from tests.data.tasks import tokenizer

from bloomery.data.tasks import Entity, Vocabulary, Word
from bloomery.text.tokenizer import Tokenizer

TEXT = "King Arthur of New York's court didn't say \"no\". Then the Round Table\nfell."


def parts(unit, text=TEXT, made=None):
    made = made or tokenizer()
    vocabulary = Vocabulary(made)
    ids = np.array(made.encode(text), np.int64)
    words = vocabulary.word_starts(ids[None], np.ones((1, len(ids)), np.int64))[0]
    starts = unit.starts(ids, words, vocabulary, np.random.default_rng(0))
    pieces = [part.tolist() for part in np.split(ids, np.flatnonzero(starts)) if len(part)]
    return [b"".join(made.token_bytes[i] for i in piece).decode(errors="replace") for piece in pieces]


def test_words_bring_their_blanks_and_signs_stand_alone():
    wanted = ["King", " Arthur", " of", " New", " York", "'", "s", " court", " didn", "'", "t", " say", " ", '"', "no", '"', ".", " Then",
              " the", " Round", " Table", "\n", "fell", "."]  # fmt: skip
    assert parts(Word()) == wanted


def test_words_are_the_same_however_a_tokenizer_cuts_them():
    from bloomery.text.tokenizer import Unigram, WordPiece

    text = "the wanderer remembered nothing of it"
    for model in (WordPiece(), Unigram()):
        made = Tokenizer.train([TEXT, "the wanderer remembered nothing at all of it"] * 40, vocab_size=400, model=model)
        assert [part.strip() for part in parts(Word(), text, made)] == text.split()


@pytest.mark.parametrize(("text", "words"), [("王様だ", 3), ("король спал", 2), ("a é b", 3), ("x1y", 1), ("ça", 1)])
def test_scripts_without_blanks_are_told_character_by_character(text, words):
    assert len(parts(Word(), text)) == words


def test_names_are_runs_of_capitalised_words():
    assert parts(Entity())[:4] == ["King Arthur", " of", " New York", "'"]
    assert " Round Table" in parts(Entity())
    assert " Then" in parts(Entity())  # the first word of a sentence looks like a name, too


def test_phrases_of_a_list_are_wholes_and_the_longest_counts():
    found = parts(Entity(phrases=("Arthur of", "Arthur of New York", "say", "didn"), capitals=False))
    assert found[:4] == ["King", " Arthur of New York", "'", "s"]
    assert " York" in parts(Entity(phrases=("Yor",), capitals=False))  # a part of a word is no phrase
