"""Penalties and biases: token by token as transformers' `generate` on the same weights, over 210 prompts."""

from __future__ import annotations

import math
import re
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.generate.peers import END, ENDS, MODEL, NEW, PROMPTS, TOKENIZER, generated

from bloomery.core.errors import ConfigError
from bloomery.generate import (
    Frequency,
    Greedy,
    LogitBias,
    NoRepeatedSentence,
    NoRepeatNGram,
    Picks,
    Presence,
    Repetition,
    Rule,
    Text,
    complete_by,
)
from bloomery.text.tokenizer import Tokenizer

BYTES = Tokenizer.train(["A cat sat. The cat ran! Did it? It did; the cat ran.\n"] * 20, vocab_size=300)


def ours(*rules: Rule, prompts: list[list[int]] = PROMPTS) -> list[list[int]]:
    picks = Picks(Greedy(), [rule.ready(TOKENIZER) for rule in rules], prompts, [0] * len(prompts), END)
    return complete_by(picks, MODEL, prompts, [END], NEW, 70)


@cache
def plain() -> list[list[int]]:
    return ours()


def taken(presence: float, frequency: float):
    """Presence and frequency as OpenAI's reference has them, for transformers: μ[j] − c[j] · frequency − (c[j] > 0) · presence."""

    def behind(prompt: int):
        def processor(ids, scores):
            scores = scores.clone()
            for row, tokens in enumerate(ids[:, prompt:].tolist()):
                for token in set(tokens):
                    scores[row, token] -= tokens.count(token) * frequency + presence
            return scores

        return processor

    return behind


def no_sentence_twice(prompt: int):
    """For transformers, written naively: each token is tried."""

    def processor(ids, scores):
        scores = scores.clone()
        for row, tokens in enumerate(ids.tolist()):
            text = "".join("." if token in TOKENIZER.controls else TOKENIZER.decode([token]) for token in tokens)
            *whole, begun = re.split(f"[{re.escape(ENDS)}]", text)
            said = [re.sub("[^a-z]+", " ", sentence.lower()).split() for sentence in whole]
            if (words := re.sub("[^a-z]+", " ", begun.lower()).split()) and words in said:
                scores[row, [TOKENIZER.encode(end)[0] for end in ENDS]] = -math.inf
        return scores

    return processor


def test_the_model_of_these_tests_has_something_to_say():
    assert len({tuple(text) for text in plain()}) > 150
    assert 20 < sum(len(text) < NEW for text in plain()) < 190  # some end by a token, some by their length


@pytest.mark.parametrize("n", [36, pytest.param(210, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("rules", "options"), [
    ((), {}),
    ((Repetition(factor=1.4),), {"repetition_penalty": 1.4}),
    ((Repetition(factor=0.7),), {"repetition_penalty": 0.7}),
    ((NoRepeatNGram(n=1),), {"no_repeat_ngram_size": 1}),
    ((NoRepeatNGram(n=3),), {"no_repeat_ngram_size": 3}),
    ((LogitBias(biases={5: 2.5, 9: -4.0}),), {"sequence_bias": [[[5], 2.5], [[9], -4.0]]}),
    ((Presence(amount=1.1),), {"processor": taken(1.1, 0.0)}),
    ((Frequency(amount=0.6),), {"processor": taken(0.0, 0.6)}),
    ((Presence(amount=-0.2), Frequency(amount=1.0)), {"processor": taken(-0.2, 1.0)}),
    ((NoRepeatedSentence(ends=ENDS),), {"processor": no_sentence_twice}),
    ((LogitBias(biases={7: 1.0}), Repetition(factor=1.2), NoRepeatNGram(n=2)),
     {"sequence_bias": [[[7], 1.0]], "repetition_penalty": 1.2, "no_repeat_ngram_size": 2}),
])  # fmt: skip
def test_penalties_are_token_by_token_those_of_transformers(rules, options, n):
    told = ours(*rules, prompts=PROMPTS[:n])
    assert told == generated(PROMPTS[:n], **options)
    assert not rules or sum(a != b for a, b in zip(told, plain(), strict=False)) > n / 12


def test_a_rule_looks_at_the_text_of_its_own_row():
    texts = [Text([1, 2, 3, 1, 2], []), Text([1, 2], [3, 1, 2]), Text([4, 5], [6])]
    scores = torch.tensor([[0.5, -0.5, 2.0, 1.0, -1.0, 3.0, -2.0]]).expand(3, 7)
    assert NoRepeatNGram(n=3).shape(scores, texts).isinf().nonzero().tolist() == [[0, 3], [1, 3]]
    assert Frequency(amount=1).shape(scores, texts)[1].tolist() == pytest.approx([0.5, -1.5, 1.0, 0.0, -1.0, 3.0, -2.0])
    assert Repetition(factor=2).shape(scores, texts)[2].tolist() == pytest.approx([0.5, -0.5, 2.0, 1.0, -2.0, 1.5, -4.0])


def test_ids_of_a_prompt_that_have_no_score_count_for_nothing():
    scores = torch.ones(1, 4)
    for rule in (Repetition(factor=2), NoRepeatNGram(n=1), Presence(amount=1)):
        assert torch.equal(rule.shape(scores, [Text([9, 9, 4])]), scores)


def test_a_bias_on_a_token_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=re.escape("LogitBias.biases={4: 1.0} names a token that there is not; ids are 0 to 3")):
        LogitBias(biases={4: 1}).shape(torch.ones(1, 4), [Text([1])])
    with pytest.raises(ConfigError, match="names a token that there is not"):  # before anything is written
        LogitBias(biases={TOKENIZER.vocab_size: 1}).ready(TOKENIZER)


def test_what_leaves_nothing_to_say_ends_the_text():
    vocab = MODEL.config.vocab_size
    assert ours(LogitBias(biases=dict.fromkeys(range(vocab), -math.inf)), prompts=[[5]]) == [[]]
    assert max(map(len, ours(NoRepeatNGram(n=1), LogitBias(biases=dict.fromkeys(range(10, vocab), -math.inf)), prompts=[[5, 6]]))) <= 8


def banned(text: str) -> set[bytes]:
    scores = NoRepeatedSentence().ready(BYTES)(torch.zeros(1, BYTES.vocab_size), [Text([BYTES.begin], BYTES.encode(text))])
    return {BYTES.token_bytes[i] for i in scores[0].isinf().nonzero().flatten().tolist()}


@pytest.mark.parametrize(("text", "is_banned"), [
    ("A cat sat. A cat sat", True), ("A cat sat. a CAT, sat", True), ("A cat sat! A cat sat", True), ("A cat sat. A cat", False),
    ("A cat sat. So a cat sat", False), ("A cat sat", False), ("A cat sat. The cat ran. A cat sat", True), ("... ", False),
    ("A cat sat. ", False),
])  # fmt: skip
def test_no_sentence_is_said_twice(text, is_banned):
    found = banned(text)
    assert ({b".", b"!", b"?"} <= found) == is_banned
    assert all(re.search(rb"[.!?\n]", token) for token in found)


@given(st.lists(st.sampled_from(["a cat sat", "the cat ran", "it did", " ", ""]), max_size=6), st.sampled_from([".", "!", "\n"]))
def test_a_text_that_follows_the_rule_has_each_sentence_once(said, end):
    text, kept = "", set()
    for sentence in said:
        if not (words := " ".join(sentence.split())):
            continue
        if (end.encode() in banned(text + sentence)) != (words in kept):
            raise AssertionError((text, sentence))
        if words not in kept:
            kept.add(words)
            text += sentence + end


def test_a_control_token_ends_a_sentence():
    ids = [BYTES.user, *BYTES.encode("A cat sat"), BYTES.end, BYTES.assistant, *BYTES.encode("A cat sat")]
    scores = NoRepeatedSentence().ready(BYTES)(torch.zeros(1, BYTES.vocab_size), [Text(ids)])
    assert scores[0, BYTES.encode(".")[0]] == -math.inf


def test_sentences_need_a_tokenizer_and_ends_of_one_byte():
    with pytest.raises(ConfigError, match="there is no tokenizer"):
        NoRepeatedSentence().ready(None)
    with pytest.raises(ConfigError, match="give ASCII characters"):
        NoRepeatedSentence(ends="。")
