"""Texts held to a list, a regular expression or a JSON schema, whatever the model would say."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.generate import Beam, Decoding, Greedy, Json, OneOf, Random, Regex, Repetition, Writer
from bloomery.generate.constraints import TokenTrie
from bloomery.models import LlamaConfig
from bloomery.nn import FanInInit
from bloomery.text.tokenizer import Tokenizer, Unigram

CORPUS = ["the quick brown fox {\"name\": \"Ada\", \"age\": 36, \"likes\": [true, false]} 12.5 é日本 yes no maybe not at all"] * 20
BYTES = Tokenizer.train(CORPUS, vocab_size=340)
PIECES = Tokenizer.train(CORPUS, vocab_size=310, model=Unigram())
LIST = ("yes", "no", "not at all", "not", "é日本")
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "likes": {"type": "array", "items": {"enum": ["tea", "日", True, None]}, "maxItems": 3},
        "grade": {"type": "string", "pattern": "^[A-F][+-]?$"},
    },
    "required": ["name", "age", "likes", "grade"], "additionalProperties": False,
}  # fmt: skip
PATTERN = r"(\d{1,3}\.){3}\d{1,3}|[a-c]{2,6}é?"


def random_model(tokenizer: Tokenizer):
    return LlamaConfig(
        vocab_size=tokenizer.vocab_size + 9, d_model=16, n_layers=1, n_heads=2, max_seq_len=400, tie_embeddings=False,
        init=FanInInit(gain=2.0, embedding=1.0),
    ).build(5).eval()  # fmt: skip


MODELS = {"bytes": (random_model(BYTES), BYTES), "pieces": (random_model(PIECES), PIECES)}


def written(which: str, n: int, *rules, by=Random(temperature=1.5), **fields):  # noqa: B008
    model, tokenizer = MODELS[which]
    prompts = [[tokenizer.begin, *tokenizer.encode(f"{i % 7}")] for i in range(n)]
    return Writer(model, tokenizer, Decoding(by=by, rules=rules, max_new_tokens=300, **fields)).write(prompts, range(n), batch_rows=250)


def is_valid(text: str) -> bool:
    """By the schema, written out."""
    found = json.loads(text)
    return (
        list(found) == ["name", "age", "likes", "grade"] and isinstance(found["name"], str) and len(found["name"]) <= 8
        and isinstance(found["age"], int) and 0 <= found["age"] <= 150 and len(found["likes"]) <= 3
        and all(any(one is kind or one == kind for kind in ("tea", "日", True, None)) for one in found["likes"])
        and re.fullmatch("[A-F][+-]?", found["grade"]) is not None
    )  # fmt: skip


RULES = {
    "a list": (OneOf(texts=LIST), LIST.__contains__),
    "a regex": (Regex(pattern=PATTERN), re.compile(PATTERN).fullmatch),
    "a schema": (Json(matching=SCHEMA), is_valid),
}


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("name", ["a list", "a regex", "a schema"])
@pytest.mark.parametrize("n", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_nothing_invalid_is_written_by_a_model_of_random_weights(which, name, n):
    rule, valid = RULES[name]
    told = written(which, n, rule)
    assert [one.text for one in told if not valid(one.text)] == []
    assert {one.ended for one in told} == {"end"}
    assert len({one.text for one in told}) >= (3 if name == "a list" else n // 2)


def test_without_the_rules_nothing_of_it_would_be_valid():
    assert not [one.text for one in written("bytes", 3) if one.text in LIST or re.fullmatch(PATTERN, one.text)]


@pytest.mark.parametrize("by", [Greedy(), Beam(n_beams=3), Beam(n_beams=2, sampler=Random())], ids=str)
@pytest.mark.parametrize("name", ["a list", "a regex", "a schema"])
def test_searches_are_held_too(by, name):
    rule, valid = RULES[name]
    assert all(valid(one.text) for one in written("bytes", 5, Repetition(factor=1.1), rule, by=by))


def test_every_text_of_a_list_can_come():
    assert {one.text for one in written("bytes", 120, OneOf(texts=LIST), by=Random(temperature=4.0))} == set(LIST)


def test_a_regex_reads_slashes_newlines_and_digits_as_they_are_meant():
    texts = [one.text for one in written("bytes", 40, Regex(pattern="a/b\nc|\\d{2}/"), by=Random(temperature=4.0))]
    assert all(re.fullmatch("a/b\nc|[0-9]{2}/", text) for text in texts)
    assert "a/b\nc" in texts
    assert len(set(texts)) > 2


def test_blanks_may_be_free():
    texts = [one.text for one in written("bytes", 12, Json(matching={"enum": [{"a": 1, "b": [2]}]}, blanks="free"))]
    assert all(json.loads(text) == {"a": 1, "b": [2]} for text in texts)
    (tight,) = {one.text for one in written("bytes", 12, Json(matching={"enum": [{"a": 1, "b": [2]}]}))}
    assert tight == '{"a": 1, "b": [2]}'


@given(st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=4), min_size=1, max_size=6), st.lists(st.integers(1, 5), max_size=5))
def test_a_trie_allows_what_some_sequence_goes_on_with(sequences, begun):
    whole = [[*sequence, 1] for sequence in sequences]
    expected = {one[len(begun)] for one in whole if one[: len(begun)] == begun and len(one) > len(begun)}
    assert set(TokenTrie(sequences, end=1).behind(begun)) == expected


def test_what_is_held_is_the_same_whatever_else_is_in_the_batch():
    model, tokenizer = MODELS["bytes"]
    which = [3, 11, 3, 5]
    prompts = [[tokenizer.begin, *tokenizer.encode(str(i % 7))] for i in which]
    for rule in (Regex(pattern=PATTERN), OneOf(texts=LIST)):
        writer = Writer(model, tokenizer, Decoding(by=Random(), rules=(rule,), max_new_tokens=40))
        together = writer.write(prompts, which, batch_rows=3)
        assert together == [writer.write([prompt], [i])[0] for prompt, i in zip(prompts, which, strict=True)]


@pytest.mark.parametrize(("rule", "message"), [
    (Regex(pattern="(ab"), r"Regex.pattern='\(ab' cannot be followed: "),
    (Json(matching={"type": "sandwich"}), r"Json.matching=\{'type': 'sandwich'\} cannot be followed: "),
])  # fmt: skip
def test_what_cannot_be_followed_is_refused(rule, message):
    with pytest.raises(ConfigError, match=message):
        rule.ready(BYTES)


def test_what_spells_needs_a_tokenizer_and_an_empty_text_is_refused():
    for rule in (OneOf(texts=("a",)), Regex(pattern="a")):
        with pytest.raises(ConfigError, match="there is no tokenizer"):
            rule.ready(None)
    with pytest.raises(ConfigError, match="has an empty one"):
        OneOf(texts=("a", ""))


def test_without_the_package_it_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConfigError, match=re.escape("Regex needs another package; pip install 'bloomery[grammar]'")):
        Regex(pattern="a").ready(BYTES)


def test_scores_of_what_is_allowed_are_left_as_they_are():
    from bloomery.generate import Text

    scores = torch.randn(1, BYTES.vocab_size + 5)
    for rule in (OneOf(texts=LIST), Regex(pattern=PATTERN)):
        held = rule.ready(BYTES)(scores, [Text([1])])
        kept = held > -torch.inf
        assert 0 < kept.sum() < 200
        assert torch.equal(held[kept], scores[kept])
        assert not kept[0, BYTES.vocab_size :].any()
