"""Gopher's rules: by example, against slow versions of themselves, and beside datatrove's."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings

from bloomery.core.errors import ConfigError
from bloomery.text.filters import GopherQuality, GopherRepetition
from tests.text.filters import naive
from tests.text.filters.naive import documents, measures_of

PROSE = "The people of the town have gathered with their friends to be near the river and that was all. "
SMALL = GopherQuality(min_words=3)


def reason(filter, text):
    return filter(documents(text)).reasons[0].as_py()


@pytest.mark.parametrize(("text", "expected"), [
    (PROSE, None), ("the of", "words below 3"), ("a b c d e to of", "mean word chars below 3"),
    ("internationalisation of the professionalisations " * 2, "mean word chars above 10"),
    ("the # people # of # town", "hashes per word above 0.1"), ("the people ... of … town ...", "ellipses per word above 0.1"),
    ("- the people\n- of town\n", "bullet lines above 0.9"),
    ("the people of the town with long words...\nand more words are there\n", "ellipsis lines above 0.3"),
    ("the townspeople of 1999 2000 2001", "alpha words below 0.8"), ("some words without any stopping here", "stop words below 2"),
])  # fmt: skip
def test_quality(text, expected):
    assert reason(SMALL, text) == expected


def test_bounds_themselves_still_pass():
    fifty = " ".join(["the", "of", "word"] * 16 + ["word", "word"])
    assert reason(GopherQuality(), fifty) is None
    assert reason(GopherQuality(), fifty.removesuffix(" word")) == "words below 50"


@settings(deadline=None)
@given(naive.texts)
def test_quality_counts_as_a_loop_does(text):
    tokens = naive.words(text)
    plain = [w for w in tokens if not naive.symbol(w)]
    found = measures_of(GopherQuality()(documents("other the text", text)), 1)
    assert found["words"] == len(plain)
    assert found["mean_word_chars"] == (pytest.approx(np.mean([len(w) for w in plain])) if plain else None)
    alpha = [any(naive.letter(c) or naive.own(c) for c in w) for w in tokens]
    assert found["alpha_words"] == (pytest.approx(np.mean(alpha)) if tokens else None)
    assert found["stop_words"] == len({w.lower() for w in tokens} & set(GopherQuality().stop_words))
    if tokens:
        assert found["hashes_per_word"] == pytest.approx(text.count("#") / len(tokens))
        assert found["ellipses_per_word"] == pytest.approx((text.count("...") + text.count("…")) / len(tokens))


@settings(deadline=None)
@given(naive.texts)
def test_repetition_counts_as_a_loop_does(text):
    found = measures_of(GopherRepetition()(documents("a b a b a b", text)), 1)
    tokens = naive.words(text)
    for n in (2, 3, 4):
        assert found[f"top_{n}_gram"] == (pytest.approx(naive.top_gram_chars(tokens, n) / len(text)) if text else None)
    for n in range(5, 11):
        assert found[f"repeated_{n}_grams"] == (pytest.approx(naive.read_again_chars(tokens, n) / len(text)) if text else None)


@pytest.mark.parametrize(("text", "expected"), [
    ("one two\n\nthree four\n\none two", "repeated paragraphs above 0.3"),
    ("a long line of words\nb\nc\nd\ne\na long line of words", "repeated line chars above 0.2"),
    ("alpha beta alpha beta gamma alpha beta", "top 2 gram above 0.2"), ("", None),
])  # fmt: skip
def test_repetition(text, expected):
    assert reason(GopherRepetition(), text) == expected


def test_each_n_counts_once():
    with pytest.raises(ConfigError, match="each n once"):
        GopherRepetition(max_top_n_grams=((2, 0.1), (2, 0.2)))


def peers(name):
    return importlib.import_module(f"datatrove.pipeline.filters.{name}")


def disagreements(filter, peer, texts):
    """What they disagree on: the place, our reason and theirs."""
    data = importlib.import_module("datatrove.data")
    verdicts = filter(documents(*texts))
    found = []
    for i, (text, dropped) in enumerate(zip(texts, verdicts.dropped.to_pylist(), strict=True)):
        theirs = peer.filter(data.Document(text=text, id="x"))
        if dropped == (theirs is True):
            found.append((verdicts.reasons[i].as_py(), theirs, measures_of(verdicts, i)))
    return found


@pytest.mark.real
@pytest.mark.parametrize(("ours", "module", "theirs"), [
    (GopherQuality(), "gopher_quality_filter", "GopherQualityFilter"),
    (GopherRepetition(), "gopher_repetition_filter", "GopherRepetitionFilter"),
])  # fmt: skip
def test_decisions_are_datatroves_given_the_same_words(real_data, monkeypatch, ours, module, theirs):
    pytest.importorskip("datatrove", reason="the peer is not installed")
    monkeypatch.setattr(peers(module), "split_into_words", lambda text, language: naive.words(text))
    assert disagreements(ours, getattr(peers(module), theirs)(), naive.real_documents(real_data)) == []


@pytest.mark.real
@pytest.mark.slow
def test_decisions_are_datatroves_but_for_how_words_are_parted(real_data):
    pytest.importorskip("spacy", reason="the peer parts words by it")
    texts = naive.real_documents(real_data)
    apart = disagreements(GopherQuality(), peers("gopher_quality_filter").GopherQualityFilter(), texts)
    assert len(apart) <= 0.03 * len(texts)
    # "don't" is two words to them, one to us: only who stands at a bound can fall on either side
    assert all(abs(found["alpha_words"] - 0.8) < 0.05 for *_, found in apart)
    assert len(disagreements(GopherRepetition(), peers("gopher_repetition_filter").GopherRepetitionFilter(), texts)) <= 0.01 * len(texts)
