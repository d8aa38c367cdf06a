"""Encodings of conversations: one beginning, the learnt spans decode to what was said, and every choice of what is learnt is what it says."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.corpora import make_shards

from bloomery.core.errors import DataError
from bloomery.core.identity import content_key
from bloomery.data.encodings import AssistantTurns, Chat, EveryTurn, LastTurn, MarkedTurns, Ranked
from bloomery.data.packing import Cut, Fit
from bloomery.data.source import Packed
from bloomery.text.chat import ChatTemplate
from bloomery.text.documents import conversation, to_batch
from bloomery.text.readers.rows import to_document
from bloomery.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["the cat sat on the mat and said: <|end|> is only text " * 9], vocab_size=300)

said = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


@st.composite
def talks(draw):
    """Conversations of two to eight turns, some after a system's message."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(draw(st.lists(said, min_size=2, max_size=8)))]
    return [{"role": "system", "content": "S"}] * draw(st.booleans()) + turns


def encoded(encoding, *rows):
    """Sequences of conversations given as messages, or as messages and meta."""
    pairs = [row if isinstance(row, tuple) else (row, None) for row in rows]
    documents = [conversation(f"d{i}", "s", messages, None if meta is None else json.dumps(meta)) for i, (messages, meta) in enumerate(pairs)]
    return list(encoding.encode(to_batch(documents), TOKENIZER))


def spans(sequence):
    """The texts of the runs of learnt tokens, each with whether it closes with the end of a turn."""
    runs = itertools.groupby(zip(sequence.tokens.tolist(), sequence.mask.tolist(), strict=True), key=lambda pair: pair[1])
    found = [[token for token, _ in run] for learnt, run in runs if learnt]
    return [(TOKENIZER.decode(ids), ids[-1] == TOKENIZER.end) for ids in found]


@settings(max_examples=60, deadline=None)
@given(messages=talks())
def test_what_is_learnt_decodes_to_what_the_assistant_said(messages):
    [sequence] = encoded(Chat(), messages)
    replies = [m["content"] for m in messages if m["role"] == "assistant"]
    assert spans(sequence) == [(text, True) for text in replies]
    assert sequence.tokens.tolist().count(TOKENIZER.begin) == 1
    assert (sequence.mask[sequence.tokens == TOKENIZER.end].sum(), sequence.mask[sequence.tokens == TOKENIZER.begin].sum()) == (len(replies), 0)
    assert 0 < sequence.mask.sum() < len(sequence.tokens)
    assert sequence.mask.tolist() == ChatTemplate().render(messages, TOKENIZER).mask


@settings(max_examples=60, deadline=None)
@given(messages=talks())
def test_each_choice_learns_the_turns_that_it_names(messages):
    contents = [m["content"] for m in messages]
    replies = [m["content"] for m in messages if m["role"] == "assistant"]
    assert [text for text, _ in spans(encoded(Chat(learn=LastTurn()), messages)[0])] == replies[-1:]
    assert [text for text, _ in spans(encoded(Chat(learn=EveryTurn()), messages)[0])] == contents
    marks = [i % 3 == 0 for i in range(len(messages))]
    [sequence] = encoded(Chat(learn=MarkedTurns()), (messages, {"learn": marks}))
    assert [text for text, _ in spans(sequence)] == [text for text, mark in zip(contents, marks, strict=True) if mark]
    assert [text for text, _ in spans(encoded(Chat(learn=MarkedTurns()), messages)[0])] == replies


def test_the_default_counts_as_it_did():
    assert content_key(Chat()) == content_key(Chat(learn=AssistantTurns()))
    assert Chat().identity() == {"kind": "Chat"}


def test_marks_must_fit_their_messages():
    with pytest.raises(DataError, match="'d0' has 1 marks for 2 messages"):
        encoded(Chat(learn=MarkedTurns()), ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], {"learn": [True]}))


def rows(*plain):
    """A batch of rows as the reader makes them."""
    return to_batch([to_document(row, f"r{i}", "s", "text", ()) for i, row in enumerate(plain)])


PREFERENCES = (
    {"prompt": "hi", "chosen": "good", "rejected": "bad"}, {"prompt": "hm", "completion": "no", "label": False},
    {"prompt": "hm", "completion": "yes", "label": True}, {"instruction": "plain", "output": "talk"},
)  # fmt: skip


def test_of_a_preference_the_best_is_learnt_as_a_conversation():
    sequences = list(Chat().encode(rows(*PREFERENCES), TOKENIZER))
    assert [(s.id, [text for text, _ in spans(s)]) for s in sequences] == [("r0", ["good"]), ("r2", ["yes"]), ("r3", ["talk"])]


def test_ranked_has_a_sequence_for_each_completion_best_first():
    sequences = list(Ranked().encode(rows(*PREFERENCES), TOKENIZER))
    assert [(s.id, spans(s)) for s in sequences] == [
        ("r0@1", [("good", True)]), ("r0@2", [("bad", True)]), ("r1@bad", [("no", True)]), ("r2@good", [("yes", True)]),
    ]  # fmt: skip
    assert all(s.tokens.tolist().count(TOKENIZER.begin) == 1 for s in sequences)
    prompt = ChatTemplate().render([{"role": "user", "content": "hi"}], TOKENIZER, add_generation_prompt=True).ids
    assert all(s.tokens.tolist()[: len(prompt)] == prompt for s in sequences[:2])


def test_truncation_is_counted_with_what_was_to_be_learnt(tmp_path):
    shards = make_shards(tmp_path, [3, 12, 9], masked=True)
    [supply] = Packed(shards, Fit(), time=5, seed=0).supply(4)
    assert (supply.cut_documents, supply.cut_tokens) == (2, 11)
    assert supply.cut_learnt == int(np.sum(shards.mask(1, 5)) + np.sum(shards.mask(2, 5)))
    assert f"11 tokens are cut per epoch, {supply.cut_learnt} of them to be learnt" in str(supply)
    assert Packed(shards, Cut(), time=5, seed=0).supply(4)[0].cut_learnt == 0
