"""A model that writes by a value: texts in and texts out, alike in batches and in streams."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.generate.peers import END, MODEL, PROMPTS, TOKENIZER

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.generate import (
    Beam,
    Contrastive,
    Decoding,
    DoLa,
    Frequency,
    LogitBias,
    NoRepeatNGram,
    OneOf,
    Random,
    Repetition,
    Writer,
    complete,
    search,
)

DECODINGS = {
    "greedy": Decoding(max_new_tokens=12),
    "drawn, with rules and stops": Decoding(
        by=Random(temperature=1.3, top_p=0.9), rules=(Repetition(factor=1.3), Frequency(amount=0.3), NoRepeatNGram(n=3)),
        stops=("a", "b", "?;"), max_new_tokens=16,
    ),
    "contrasted": Decoding(by=Random(), contrast=DoLa(layers=(0, 1)), max_new_tokens=9),
    "beams, with stops": Decoding(by=Beam(n_beams=3), stops=("a", "b"), max_new_tokens=9),
    "drawn beams": Decoding(by=Beam(n_beams=2, sampler=Random()), rules=(NoRepeatNGram(n=1),), max_new_tokens=9),
    "contrastive": Decoding(by=Contrastive(top_k=3), max_new_tokens=9),
    "held to a list": Decoding(by=Random(temperature=2.0), rules=(OneOf(texts=("abc", "ab", "b")),)),
}  # fmt: skip
every_decoding = pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())


@every_decoding
@pytest.mark.parametrize(("which", "batch_rows"), [
    ((5, 99, 5, 7), 3), *(pytest.param(tuple(range(n, n + 25)), n // 10 + 1, marks=pytest.mark.slow) for n in range(0, 175, 25)),
])  # fmt: skip
def test_a_prompt_and_a_seed_give_the_same_text_in_any_batch_and_in_a_stream(decoding, which, batch_rows):
    writer, prompts = Writer(MODEL, TOKENIZER, decoding), [PROMPTS[i] for i in which]
    together = writer.write(prompts, which, batch_rows=batch_rows)
    alone = [writer.write([prompt], [seed])[0] for prompt, seed in zip(prompts, which, strict=True)]
    assert [replace(one, score=None) for one in together] == [replace(one, score=None) for one in alone]
    assert [one.score or 0 for one in together] == pytest.approx([one.score or 0 for one in alone], abs=1e-4)
    assert [one.text for one in together] == ["".join(writer.stream(prompt, seed)) for prompt, seed in zip(prompts, which, strict=True)]


def test_without_rules_it_is_what_complete_and_search_write():
    told = Writer(MODEL, TOKENIZER, Decoding(by=Random(), max_new_tokens=10)).write(PROMPTS[:20], range(20))
    assert [one.tokens for one in told] == complete(MODEL, PROMPTS[:20], [END], 10, vocab_size=48, sampler=Random(), seeds=range(20))
    assert all(one.score is None for one in told)
    told = Writer(MODEL, TOKENIZER, Decoding(by=Beam(), max_new_tokens=10)).write(PROMPTS[:20])
    assert [(one.tokens, one.score) for one in told] == [
        (found[0].tokens, found[0].score) for found in search(Beam(), MODEL, PROMPTS[:20], frozenset({END}), 10)
    ]


@pytest.mark.parametrize("by", [Random(), Beam(n_beams=2)], ids=str)
def test_it_says_what_ended_a_text(by):
    told = Writer(MODEL, TOKENIZER, Decoding(by=by, stops=("e", "f,"), max_new_tokens=14)).write(PROMPTS[:60], range(60))
    assert {one.ended for one in told} == {"end", "stop", "length"}
    for one in told:
        spelled = TOKENIZER.decode(one.tokens)
        assert one.text == spelled.partition("e")[0].partition("f,")[0]
        assert (one.ended == "stop") == ("e" in spelled or "f," in spelled)
        assert spelled.endswith(("e", "f,")) == (one.ended == "stop")
        assert (one.ended == "length") == (len(one.tokens) == 14 and one.ended != "stop")


def test_the_end_of_the_context_is_a_length():
    (one,) = Writer(MODEL, TOKENIZER, Decoding(rules=(LogitBias(biases={END: -100.0}),))).write([PROMPTS[2] * 4])
    assert (one.ended, len(one.tokens)) == ("length", 64 - 56)


@pytest.mark.parametrize(("fields", "message"), [
    ({"stops": ("a", "")}, "has an empty string"),
    ({"by": Contrastive(), "contrast": DoLa()}, "leave out the one or the other"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(**fields)


@every_decoding
def test_a_decoding_has_an_identity(decoding):
    assert isinstance(decoding, Config)
    assert decoding.identity() != Decoding(max_new_tokens=13).identity()
