"""Strings that end a text, wherever tokens begin and end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bloomery.generate import Stops
from bloomery.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["aab abab bbb\n\n ab ba aa é日"] * 30, vocab_size=300)
TEXTS = st.text("ab \né日", max_size=24)
STOPS = st.lists(st.text("ab\né日", min_size=1, max_size=5), max_size=3)
CUTS = st.lists(st.integers(0, 30), max_size=8)


def tokens_of(text: str, cuts: list[int]) -> list[int]:
    """Spelled otherwise than the tokenizer would: the text is cut anywhere, within characters too."""
    data = text.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    by_bytes = {}
    for i, token in enumerate(TOKENIZER.token_bytes):
        by_bytes.setdefault(token, i)
    ids = []
    for start, end in pairwise(places):
        piece = data[start:end]
        ids += [by_bytes[piece]] if piece in by_bytes else [by_bytes[piece[i : i + 1]] for i in range(len(piece))]
    return ids


@given(TEXTS, STOPS, CUTS)
def test_a_text_ends_before_the_one_that_is_complete_first(text, stops, cuts):
    at = min(((text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text), default=(0, len(text)))[1]
    assert Stops(stops, TOKENIZER).text(tokens_of(text, cuts)) == text[:at]


@given(TEXTS, STOPS, CUTS)
def test_the_token_that_completes_one_is_known_at_once(text, stops, cuts):
    ids, found = tokens_of(text, cuts), Stops(stops, TOKENIZER)
    for n in range(1, len(ids) + 1):
        whole = TOKENIZER.decode_bytes(ids[:n])
        if any(stop.encode() in whole for stop in stops):
            assert found.ended_by(ids[:n])
            return
        assert not found.ended_by(ids[:n])


@given(TEXTS, STOPS, CUTS)
def test_what_is_streamed_is_never_taken_back_and_held_no_longer_than_needed(text, stops, cuts):
    ids, found, said = tokens_of(text, cuts), Stops(stops, TOKENIZER), ""
    for n in range(1, len(ids) + 1):
        if found.ended_by(ids[:n]):
            break
        whole = TOKENIZER.decode_bytes(ids[:n])
        ahead = next(k for k in range(len(whole) + 1) if k == len(whole) or any(s.encode().startswith(whole[k:]) for s in stops))
        said = "".join(before_more(found.streamed(then_more(ids[:n]))))
        assert said == whole[:ahead].decode(errors="ignore")
    assert found.text(ids).startswith(said)


def then_more(ids):
    yield from ids
    raise EOFError


def before_more(pieces):
    try:
        yield from pieces
    except EOFError:
        return


def test_a_character_of_several_tokens_waits_for_its_last():
    ids = tokens_of("日b", [1, 2])
    assert len(ids) == 4
    assert list(Stops([], TOKENIZER).streamed(ids)) == ["日", "b"]
    assert list(Stops([], TOKENIZER).streamed(ids[:2])) == ["\ufffd"]


def test_what_only_begins_a_stop_comes_in_the_end():
    assert list(Stops(["\n\nb"], TOKENIZER).streamed(tokens_of("a\n\n", [1, 2]))) == ["a", "\n\n"]
