"""Beam search: token by token as transformers' `generate` on the same weights, over 210 prompts; groups as their definition says."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.generate.peers import END, MODEL, NEW, PROMPTS, TOKENIZER, generated, peer

from bloomery.core.errors import ConfigError
from bloomery.generate import Beam, Contrastive, Found, NoRepeatNGram, Random, Repetition, Rule, search
from bloomery.generate.beam import Group, Way
from bloomery.generate.reading import Reading
from bloomery.generate.search import Terms
from bloomery.models import EncoderDecoderConfig
from bloomery.nn import AttentionConfig, CrossAttentionConfig, FanInInit, GatedConfig, Passage, SequenceLayout, UntiedConfig


def found(by: Beam, *rules: Rule, prompts: list[list[int]] = PROMPTS, new: int = NEW, **more) -> list[list[Found]]:
    return search(by, MODEL, prompts, frozenset({END}), new, shapes=[rule.ready(TOKENIZER) for rule in rules], batch_rows=256, **more)


def best(by: Beam, *rules: Rule, prompts: list[list[int]] = PROMPTS) -> list[list[int]]:
    return [one[0].tokens for one in found(by, *rules, prompts=prompts)]


@cache
def plain() -> list[list[int]]:
    return best(Beam(n_beams=4))


some_or_all = pytest.mark.parametrize("n", [24, pytest.param(210, marks=pytest.mark.slow)])


@some_or_all
@pytest.mark.parametrize(("by", "rules", "options"), [
    (Beam(n_beams=1), (), {}),
    (Beam(n_beams=4), (), {"num_beams": 4}),
    (Beam(n_beams=3, length_penalty=0.0), (), {"num_beams": 3, "length_penalty": 0.0}),
    (Beam(n_beams=3, length_penalty=-1.5), (), {"num_beams": 3, "length_penalty": -1.5}),
    (Beam(n_beams=2, length_penalty=2.0), (), {"num_beams": 2, "length_penalty": 2.0}),
    (Beam(n_beams=4, ends="full"), (), {"num_beams": 4, "early_stopping": True}),
    (Beam(n_beams=2, ends="never", length_penalty=2.0), (), {"num_beams": 2, "early_stopping": "never", "length_penalty": 2.0}),
    (Beam(n_beams=4), (Repetition(factor=1.3), NoRepeatNGram(n=2)), {"num_beams": 4, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2}),
])  # fmt: skip
def test_beams_are_token_by_token_those_of_transformers(by, rules, options, n):
    told = best(by, *rules, prompts=PROMPTS[:n])
    assert told == generated(PROMPTS[:n], **options)
    assert n < 210 or (by == Beam(n_beams=4) and not rules) or sum(a != b for a, b in zip(told, plain(), strict=True)) > 10


def test_it_matters_when_a_prompt_is_done():
    by = Beam(n_beams=2, length_penalty=2.0)
    told = [[one[0].tokens for one in found(by.replace(ends=ends), prompts=PROMPTS[:40])] for ends in ("full", "likely", "never")]
    assert told[0] != told[1] != told[2] != told[0]


def test_all_whole_texts_and_their_scores_are_those_of_transformers():
    prompts = PROMPTS[:60:3]
    ids = torch.tensor(prompts)
    theirs = peer().generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, eos_token_id=END, pad_token_id=END, num_beams=4, num_return_sequences=4,
        do_sample=False, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    rows = [row[: row.index(END)] if END in row else row for row in theirs.sequences[:, ids.shape[1] :].tolist()]
    every = [one for ours in found(Beam(n_beams=4), prompts=prompts) for one in ours]
    assert [one.tokens for one in every] == rows
    torch.testing.assert_close(torch.tensor([one.score for one in every]), theirs.sequences_scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("sampler", "options"), [
    (Random(), {"top_k": 0}),
    (Random(temperature=1.5, top_k=5), {"temperature": 1.5, "top_k": 5}),
    (Random(top_p=0.4, min_p=0.1, typical_p=0.9), {"top_k": 0, "top_p": 0.4, "min_p": 0.1, "typical_p": 0.9}),
])  # fmt: skip
@pytest.mark.parametrize("n", [3, pytest.param(210, marks=pytest.mark.slow)])
def test_drawn_beams_are_token_by_token_those_of_transformers_from_the_same_random_numbers(sampler, options, n):
    by, told, theirs = Beam(n_beams=3, sampler=sampler), [], []
    for i, prompt in enumerate(PROMPTS[:n]):
        terms = Terms(frozenset({END}), [NEW], [torch.Generator().manual_seed(i)])
        with torch.inference_mode():
            told.append(by.find(Reading(MODEL, [prompt], len(prompt) + NEW), [prompt], terms)[0][0].tokens)
        torch.manual_seed(i)
        theirs += generated([prompt], num_beams=3, do_sample=True, **options)
    assert told == theirs


def grouped(prompt: list[int], groups: int, each: int, diversity: float, penalty: float) -> list[list[int]]:
    """Vijayakumar et al. (2016), algorithm 1: each group does a beam search of its own, reading everything again for each token; a token
    that earlier groups have just taken costs `diversity` for each time. A group is done once its best beam is no better than its worst text."""
    going = [[(0.0, [])] for _ in range(groups)]
    whole: list[list[tuple[float, list[int]]]] = [[] for _ in range(groups)]
    for length in range(1, NEW + 1):
        for g in range(groups):
            ways = []
            for score, text in going[g]:
                with torch.no_grad():
                    logp = MODEL(torch.tensor([prompt + text]), SequenceLayout.rows(1, len(prompt + text)))[0, -1].log_softmax(-1)
                for other in going[:g]:
                    for _, taken in other:
                        logp[taken[-1]] -= diversity
                ways += [(score + p, [*text, token]) for token, p in enumerate(logp.tolist())]
            ways = sorted(ways, key=lambda way: -way[0])[: 2 * each]
            ends = [text[-1] == END or length == NEW for _, text in ways]
            whole[g] += [(score / length**penalty, text) for (score, text), end in zip(ways[:each], ends[:each], strict=True) if end]
            whole[g] = sorted(whole[g], key=lambda way: -way[0])[:each]
            going[g] = [way for way, end in zip(ways, ends, strict=True) if not end][:each]
            if len(whole[g]) == each and going[g] and going[g][0][0] / length**penalty <= whole[g][-1][0]:
                going[g] = []
    texts = sorted((way for group in whole for way in group), key=lambda way: -way[0])
    return [text[:-1] if text[-1] == END else text for _, text in texts]


@pytest.mark.parametrize(("groups", "each", "diversity", "penalty", "n"), [
    (2, 2, 0.7, 1.0, 2), (3, 1, 2.0, 0.5, 3),
    pytest.param(2, 2, 0.7, 1.0, 210, marks=pytest.mark.slow), pytest.param(3, 1, 2.0, 0.5, 210, marks=pytest.mark.slow),
])  # fmt: skip
def test_groups_are_those_of_the_published_definition(groups, each, diversity, penalty, n):
    by = Beam(n_beams=groups * each, groups=groups, diversity=diversity, length_penalty=penalty)
    told = [[one.tokens for one in ours] for ours in found(by, prompts=PROMPTS[:n])]
    assert told == [grouped(prompt, groups, each, diversity, penalty) for prompt in PROMPTS[:n]]
    same = [[one.tokens for one in ours] for ours in found(by.replace(diversity=0.0), prompts=PROMPTS[:n])]
    assert sum(a != b for a, b in zip(told, same, strict=True)) > n / 2


def test_a_token_costs_for_each_beam_of_an_earlier_group_that_has_taken_it():
    by = Beam(n_beams=6, groups=2, diversity=0.5)
    first = Group(by, 0, ())
    first.going = [Way(0.0, [4], 0), Way(0.0, [4], 0), Way(0.0, [6], 0)]
    second = Group(by, 0, (first,))
    second.step(torch.tensor([[-9.0, -9.0, -9.0, -9.0, -1.0, -1.5, -1.25]]), Terms(frozenset({END}), [9], []))
    assert [(way.tokens, way.score) for way in second.going] == [([5], -1.5), ([6], -1.75), ([4], -2.0)]


def test_another_seed_draws_others():
    by = Beam(n_beams=2, sampler=Random())
    assert found(by, prompts=PROMPTS[:8], seeds=[0] * 8) != found(by, prompts=PROMPTS[:8], seeds=[1] * 8)


def test_a_text_ends_with_the_context_and_where_strings_say_so():
    (prompt,) = [p for p in PROMPTS if len(p) == 14][:1]
    long = prompt * 4
    assert all(len(one.tokens) <= 64 - len(long) for one in found(Beam(n_beams=3), prompts=[long], new=99)[0])
    until = lambda i, new: new[-1] >= 30  # noqa: E731
    for one in search(Beam(n_beams=3), MODEL, PROMPTS[:5], frozenset({END}), 12, until=until):
        assert all(len(way.tokens) == 12 or (way.tokens and way.tokens[-1] >= 30) or not any(t >= 30 for t in way.tokens) for way in one)
        assert all(t < 30 for way in one for t in way.tokens[:-1])


def test_what_ends_a_text_is_asked_about_its_own_prompt():
    limits = [4, 1, 3, 2, 5, 1]
    told = search(Beam(n_beams=2), MODEL, PROMPTS[5::-1], frozenset(), 9, until=lambda i, new: len(new) == limits[i], batch_rows=4)
    assert [len(one[0].tokens) for one in told] == limits


WRITER = EncoderDecoderConfig(
    vocab_size=48, d_model=32, n_layers=1, max_seq_len=24, encoder_mixer=AttentionConfig(n_heads=4),
    mixer=AttentionConfig(n_heads=4), cross=CrossAttentionConfig(n_heads=4), feed_forward=GatedConfig(d_ff=32), head=UntiedConfig(),
    init=FanInInit(gain=2.0, embedding=1.0),
).build(11)  # fmt: skip


def test_beams_write_about_passages():
    prompts, passages = [[5], [5, 6], [5]], [[9, 8, 7], [20], list(range(10, 30))]
    told = search(Beam(n_beams=3), WRITER, prompts, frozenset({END}), 6, passages=passages)
    assert [one[0].tokens for one in told] == [
        search(Beam(n_beams=3), WRITER, [prompt], frozenset({END}), 6, passages=[passage])[0][0].tokens
        for prompt, passage in zip(prompts, passages, strict=True)
    ]
    assert told[0] != told[2]
    for prompt, passage, one in zip(prompts, passages, told, strict=True):
        text, read = [*prompt, *one[0].tokens], Passage(torch.tensor([passage]), SequenceLayout.rows(1, len(passage), causal=False))
        with torch.no_grad():
            logp = WRITER(torch.tensor([text]), SequenceLayout.rows(1, len(text)), passage=read)[0].log_softmax(-1)
        written = [*one[0].tokens, END][:6]
        total = sum(float(logp[len(prompt) - 1 + i, token]) for i, token in enumerate(written))
        assert one[0].score == pytest.approx(total / len(written), abs=1e-5)


@pytest.mark.parametrize(("fields", "message"), [
    ({"n_beams": 4, "groups": 3}, "does not part n_beams=4 evenly"),
    ({"diversity": 0.5}, "has no groups to set apart"),
    ({"groups": 2, "sampler": Random()}, "leave out the sampler"),
])  # fmt: skip
def test_beams_that_go_nowhere_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Beam(**fields)


def test_every_search_says_how_many_rows_it_reads():
    assert (Beam(n_beams=6, groups=3).n_rows, Contrastive(top_k=7).n_rows) == (6, 7)
