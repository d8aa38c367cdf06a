from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DataError
from bloomery.generate import Greedy, Random, complete, decode, stream
from bloomery.models import EncoderDecoderConfig, LlamaConfig
from bloomery.nn import AttentionConfig, CrossAttentionConfig, FanInInit, GatedConfig, Passage, SequenceLayout, UntiedConfig

CONFIG = LlamaConfig(
    vocab_size=40, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=24, tie_embeddings=False,
    init=FanInInit(gain=2.0, embedding=1.0),
)
MODEL = CONFIG.build(11)
PROMPTS = st.lists(st.integers(0, 39), min_size=1, max_size=23)


def naive(prompt: list[int], stop_ids: list[int], max_new_tokens: int) -> list[int]:
    """Greedy decoding by reading everything again for each token."""
    text = list(prompt)
    while len(text) - len(prompt) < max_new_tokens and len(text) < CONFIG.max_seq_len:
        with torch.no_grad():
            token = int(MODEL(torch.tensor([text]), SequenceLayout.rows(1, len(text)))[0, -1].argmax())
        if token in stop_ids:
            break
        text.append(token)
    return text[len(prompt) :]


@given(PROMPTS, st.sets(st.integers(0, 39), max_size=10), st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_a_greedy_stream_is_naive_decoding(prompt, stop_ids, max_new_tokens):
    assert list(stream(MODEL, prompt, Greedy(), stop_ids, max_new_tokens)) == naive(prompt, list(stop_ids), max_new_tokens)


@given(st.lists(PROMPTS, max_size=9), st.sets(st.integers(0, 39), max_size=10), st.integers(0, 12), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_many_prompts_at_once_are_completed_as_one_by_one(prompts, stop_ids, max_new_tokens, batch_rows):
    together = complete(MODEL, prompts, stop_ids, max_new_tokens, batch_rows)
    assert together == [list(stream(MODEL, prompt, Greedy(), stop_ids, max_new_tokens)) for prompt in prompts]


@given(st.lists(PROMPTS, max_size=9), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_many_prompts_are_sampled_as_one_by_one(prompts, batch_rows, seed):
    sampler, seeds = Random(temperature=1.5, top_k=20, top_p=0.9), [seed + i for i in range(len(prompts))]
    together = complete(MODEL, prompts, [3], 8, batch_rows, sampler=sampler, seeds=seeds)
    assert together == [list(stream(MODEL, prompt, sampler, [3], 8, s)) for prompt, s in zip(prompts, seeds, strict=True)]


def naive_both_ways(prompt: list[int], max_new_tokens: int) -> list[int]:
    """As `naive`, the prompt being seen by all of it."""
    text = list(prompt)
    while len(text) - len(prompt) < max_new_tokens and len(text) < CONFIG.max_seq_len:
        prefix = torch.arange(len(text))[None] < len(prompt)
        with torch.no_grad():
            layout = replace(SequenceLayout.rows(1, len(text)), prefix=prefix)
            text.append(int(MODEL(torch.tensor([text]), layout)[0, -1].argmax()))
    return text[len(prompt) :]


@given(st.lists(PROMPTS, min_size=1, max_size=6), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_prompts_are_read_both_ways_where_that_is_asked(prompts, batch_rows):
    together = complete(MODEL, prompts, [], 6, batch_rows, reads="both_ways")
    assert together == [naive_both_ways(prompt, 6) for prompt in prompts]


def test_it_matters_which_way_a_prompt_is_read():
    prompts = [list(range(n, 2 * n)) for n in range(3, 12)]
    assert complete(MODEL, prompts, [], 6, reads="both_ways") != complete(MODEL, prompts, [], 6)


def test_the_model_of_these_tests_has_something_to_say():
    assert len(set(naive([1, 2, 3], [], 20))) > 5


@given(st.lists(PROMPTS, min_size=1, max_size=3), st.lists(st.integers(0, 2), min_size=2, max_size=8), st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_several_texts_to_a_prompt_are_those_of_each_alone(prompts, which, seed):
    many, seeds = [prompts[i % len(prompts)] for i in which], [seed + i for i in range(len(which))]
    sampler = Random(temperature=0.8)
    told = complete(MODEL, many, [7], 9, sampler=sampler, seeds=seeds)
    alone = [complete(MODEL, [prompt], [7], 9, sampler=sampler, seeds=[one])[0] for prompt, one in zip(many, seeds, strict=True)]
    assert told == alone


def test_a_prompt_of_several_texts_is_read_once(monkeypatch):
    read, prefill = [], decode._prefill
    monkeypatch.setattr(decode, "_prefill", lambda model, prompts, *more: read.append(len(prompts)) or prefill(model, prompts, *more))
    complete(MODEL, [[1, 2], [3], [1, 2], [1, 2]], [7], 3)
    assert read == [2]


def test_a_prompt_read_in_pieces_gives_the_same_text(monkeypatch):
    prompts = [list(range(n)) for n in (3, 17, 8, 12)]
    whole = complete(MODEL, prompts, [], 6)
    monkeypatch.setattr(decode, "PREFILL", 5)
    assert complete(MODEL, prompts, [], 6) == whole
    assert [list(stream(MODEL, prompt, Greedy(), [], 6)) for prompt in prompts] == whole


def test_a_sampled_stream_depends_on_its_seed_alone():
    def text(seed: int) -> list[int]:
        return list(stream(MODEL, [1, 2], Random(temperature=2.0), [], 20, seed))

    one = text(1)
    torch.randn(5)
    assert text(1) == one
    assert text(2) != one


def test_the_text_ends_with_the_context():
    assert len(list(stream(MODEL, [1] * 20, Greedy(), [], 100))) == 4
    assert [len(new) for new in complete(MODEL, [[1] * 20, [1] * 23, [1]], [], 100)] == [4, 1, 23]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([1] * 30, "has 30 tokens, and with one new token that is 7 more than max_seq_len=24; shorten it"),
        ([1] * 24, "has 24 tokens, and with one new token that is 1 more than max_seq_len=24; shorten it"),
        ([], "is empty; begin it with the token that begins a document"),
        ([3, 40], "has the token id 40, and the model knows 0 to 39"),
        ([-1, 4], "has the token id -1, and the model knows 0 to 39"),
    ],
)
def test_an_impossible_prompt_is_refused_at_the_call(prompt, message):
    with pytest.raises(DataError, match="^the prompt " + message):
        stream(MODEL, prompt, Greedy(), [], 5)
    with pytest.raises(DataError, match="^prompt 1 " + message):
        complete(MODEL, [[1], prompt], [], 5)


def test_decoding_records_no_gradients_and_leaves_grad_mode_alone():
    for _ in stream(MODEL, [1], Greedy(), [], 2):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


@given(PROMPTS, st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_ids_beyond_the_tokenizers_vocabulary_are_never_picked(prompt, vocab_size):
    drawn = list(stream(MODEL, prompt, Random(temperature=3.0), [], 12, vocab_size=vocab_size))
    greedy = list(stream(MODEL, prompt, Greedy(), [], 12, vocab_size=vocab_size))
    assert complete(MODEL, [prompt], [], 12, vocab_size=vocab_size) == [greedy]
    assert all(token < vocab_size for token in [*drawn, *greedy])


def test_the_bound_of_these_tests_binds():
    assert max(stream(MODEL, [1, 2], Random(temperature=3.0), [], 20)) >= 20


PASSAGES = st.lists(st.integers(0, 39), min_size=1, max_size=24)
WRITER = EncoderDecoderConfig(
    vocab_size=40, d_model=32, n_layers=1, max_seq_len=24, encoder_mixer=AttentionConfig(n_heads=4),
    mixer=AttentionConfig(n_heads=4), cross=CrossAttentionConfig(n_heads=4), feed_forward=GatedConfig(d_ff=32), head=UntiedConfig(),
    init=FanInInit(gain=2.0, embedding=1.0),
).build(11)  # fmt: skip


def naive_about(passage: list[int], prompt: list[int], max_new_tokens: int) -> list[int]:
    """Greedy decoding by reading passage and text again for each token."""
    text = list(prompt)
    while len(text) - len(prompt) < max_new_tokens and len(text) < 24:
        read = Passage(torch.tensor([passage]), SequenceLayout.rows(1, len(passage), causal=False))
        with torch.no_grad():
            text.append(int(WRITER(torch.tensor([text]), SequenceLayout.rows(1, len(text)), passage=read)[0, -1].argmax()))
    return text[len(prompt) :]


@given(st.lists(st.tuples(PASSAGES, PROMPTS), min_size=1, max_size=5), st.integers(0, 4), st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_texts_about_passages_are_those_of_naive_decoding(pairs, max_new_tokens, batch_rows):
    passages, prompts = zip(*pairs, strict=True)
    expected = [naive_about(passage, prompt, max_new_tokens) for passage, prompt in pairs]
    assert complete(WRITER, prompts, [], max_new_tokens, batch_rows, passages=passages) == expected
    assert [list(stream(WRITER, prompt, Greedy(), [], max_new_tokens, passage=passage)) for passage, prompt in pairs] == expected


def test_a_prompt_about_a_passage_read_in_pieces_gives_the_same_text(monkeypatch):
    prompts, passages = [list(range(n)) for n in (3, 17, 8)], [list(range(n)) for n in (9, 2, 24)]
    whole = complete(WRITER, prompts, [], 6, passages=passages)
    assert len({tuple(text) for text in whole}) == 3
    monkeypatch.setattr(decode, "PREFILL", 5)
    assert complete(WRITER, prompts, [], 6, passages=passages) == whole
    assert [list(stream(WRITER, prompt, Greedy(), [], 6, passage=passage)) for prompt, passage in zip(prompts, passages, strict=True)] == whole


@pytest.mark.parametrize(("model", "passages", "named"), [
    (WRITER, None, "EncoderDecoderConfig writes about a passage, and there is none"),
    (MODEL, [[1]], "LlamaConfig reads no passage"),
    (WRITER, [[1], [2]], "2 passages for 1 prompts"),
    (WRITER, [[]], "passage 0 has 0 tokens"),
    (WRITER, [[1] * 25], "passage 0 has 25 tokens.*max_seq_len=24"),
    (WRITER, [[3, 40]], "passage 0 has the token id 40"),
])  # fmt: skip
def test_passages_that_do_not_go_with_a_model_are_refused(model, passages, named):
    with pytest.raises(DataError, match=named):
        complete(model, [[1, 2]], [], 3, passages=passages)
    if passages is None or len(passages) == 1:
        with pytest.raises(DataError, match=named):
            stream(model, [1, 2], Greedy(), [], 3, passage=None if passages is None else passages[0])
