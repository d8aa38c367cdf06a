"""An engine's texts come and go while others are being written, and each is what it would be alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generate.peers import CONFIG, MODEL, PROMPTS, TOKENIZER

from bloomery.core.errors import ConfigError, DataError
from bloomery.generate import (
    Beam,
    Contrastive,
    Decoding,
    DoLa,
    Draft,
    EarlyExit,
    Engine,
    Frequency,
    Greedy,
    Int8Past,
    Job,
    LogitBias,
    Ngram,
    NoRepeatNGram,
    Random,
    Repetition,
    Writer,
    complete,
    job_by,
)
from bloomery.generate import apart as apart_module
from bloomery.generate import engine as engine_module
from bloomery.generate import room as room_module
from bloomery.generate.room import Pages, Room
from bloomery.generate.rules import IdRule
from bloomery.models import AdaptedConfig, LlamaConfig, T5Config, TransformerConfig, write_model
from bloomery.nn import AttentionConfig, GatedConfig, LatentAttentionConfig, Mamba2Config, SequenceLayout
from bloomery.nn.adapters import PrefixTuning

DECODINGS = (
    Decoding(max_new_tokens=12),
    Decoding(by=Random(temperature=0.8, top_p=0.9), max_new_tokens=7),
    Decoding(
        by=Random(temperature=1.3), rules=(Repetition(factor=1.3), Frequency(amount=0.3), NoRepeatNGram(n=3)), stops=("a", "b", "?;"),
        max_new_tokens=9,
    ),
)


def engine(**options) -> Engine:
    return Engine(MODEL, {TOKENIZER.end}, TOKENIZER.vocab_size, **options)


def alone(decoding: Decoding, prompt, seed: int):
    """What a writer writes, and what ends it."""
    written = Writer(MODEL, TOKENIZER, decoding).write([prompt], [seed])[0]
    return written.tokens, written.ended


def run(there: Engine, jobs: list[Job]) -> None:
    for job in jobs:
        there.add(job)
    finish(there, jobs)


def finish(there: Engine, jobs: list[Job]) -> None:
    """Goes on until all are done, which must not take longer than one after the other."""
    for _ in range(sum(len(job.prompt) + job.limit for job in jobs)):
        if all(job.ended is not None for job in jobs):
            return
        there.step()
    assert all(job.ended is not None for job in jobs)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model that guesses, and is right about one time in five."""
    config = CONFIG.replace(d_model=16, n_layers=1, head_dim=4)
    write_model(folder := tmp_path_factory.mktemp("small"), config, config.build(3))
    return folder


POOLS = pytest.mark.parametrize("pool", [None, 64, 150], ids=["rows", "few pages", "pages"])


@POOLS
@given(
    which=st.lists(st.tuples(st.integers(0, 209), st.integers(0, 2)), min_size=1, max_size=7), rows=st.integers(1, 4),
    gaps=st.lists(st.integers(0, 4), min_size=9, max_size=9), remembers=st.sampled_from([0, 60, 10_000]), budget=st.integers(1, 40),
    draft=st.sampled_from(["model", "n-gram", "early exit", None]),
)
@settings(max_examples=5)
def test_each_text_is_what_it_would_be_alone_whenever_it_comes(small, pool, draft, which, rows, gaps, remembers, budget):
    drafter = {
        None: None, "n-gram": Ngram(longest=2), "early exit": EarlyExit(n_layers=1, n_tokens=3), "model": Draft(model=small, n_tokens=2),
    }[draft]  # fmt: skip
    jobs = list[Job]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "PREFILL", budget)
        patch.setattr(room_module, "PAGE", 4)
        there = engine(rows=rows, remembers=remembers, pool=pool, draft=drafter)
        for (prompt, decoding), gap in zip(which, gaps, strict=False):
            jobs.append(job_by(DECODINGS[decoding], TOKENIZER, PROMPTS[prompt], seed=prompt))
            there.add(jobs[-1])
            for _ in range(gap):
                there.step()
        finish(there, jobs)
        none_is_lost(there.room)
    assert there.waiting == there.live == 0
    for (prompt, decoding), job in zip(which, jobs, strict=True):
        assert (job.tokens, job.ended) == alone(DECODINGS[decoding].replace(draft=drafter), PROMPTS[prompt], prompt)


def none_is_lost(room: Room) -> None:
    """Every page of a pool is free or remembered, once all texts are done."""
    if isinstance(room, Pages):
        kept = Counter(page for pages in room.known.values() for page in pages)
        assert {page: n for page, n in enumerate(room._used) if n} == kept
        assert sorted([*room._free, *kept]) == list(range(1, len(room._used)))


@POOLS
@given(seed=st.integers(0, 10_000))
@settings(max_examples=3)
def test_those_that_stay_are_not_disturbed_by_those_that_are_dropped(pool, seed):
    random = torch.Generator().manual_seed(seed)
    there = engine(rows=3, remembers=200, pool=pool, draft=None if seed % 2 else Ngram(n_tokens=2))
    jobs = [job_by(DECODINGS[i % 3], TOKENIZER, PROMPTS[i], seed=i) for i in range(8)]
    for job in jobs:
        there.add(job)
    gone = set()
    for _ in range(80):
        there.step()
        if int(torch.randint(4, (), generator=random)) == 0:
            gone.add(which := int(torch.randint(8, (), generator=random)))
            there.drop(jobs[which])
    for i, job in enumerate(jobs):
        if i not in gone or job.ended is not None:
            assert (job.tokens, job.ended) == alone(DECODINGS[i % 3], PROMPTS[i], i)
    assert there.waiting == there.live == 0
    none_is_lost(there.room)


def of(*mixers) -> TransformerConfig:
    return TransformerConfig(vocab_size=48, d_model=32, n_layers=2, max_seq_len=96, mixers=mixers, feed_forwards=(GatedConfig(d_ff=48),))


LLAMA = LlamaConfig(vocab_size=48, d_model=32, n_layers=2, n_heads=4, max_seq_len=96)
CACHES = {
    "keys and values": LLAMA, "prefix": AdaptedConfig(base=LLAMA, adapter=PrefixTuning(n_tokens=5)),
    "latents": of(LatentAttentionConfig(n_heads=4, d_latent=16, head_dim=8, rope_dim=4)),
    "states": of(Mamba2Config(head_dim=16, d_state=8), AttentionConfig(n_heads=4)),
}


@pytest.mark.parametrize("past", [None, Int8Past()], ids=str)
@pytest.mark.parametrize(("name", "pool"), [*((name, None) for name in CACHES), ("keys and values", 400), ("latents", 400), ("prefix", 400)])
def test_a_conversation_is_read_on_from_where_it_was(name, pool, past):
    model = CACHES[name].build(seed=0).eval()
    for parameter in model.parameters():
        parameter.data *= 1 if parameter.ndim < 2 else 8  # so that what stands before a text shows in it
    if past is not None:
        past.applied(model)
    there, first = Engine(model, set(), 48, rows=2, remembers=400, pool=pool), list(range(1, 31))
    job = job_by(Decoding(by=Random(), max_new_tokens=10), TOKENIZER, first)
    run(there, [job])
    assert job.reused == 0
    further = [*first, *job.tokens, 7, 8, 9]
    again = [job_by(Decoding(max_new_tokens=10), TOKENIZER, further), job_by(Decoding(max_new_tokens=10), TOKENIZER, [*first[:20], 40, 41])]
    fresh = [job_by(Decoding(max_new_tokens=10), TOKENIZER, job.prompt) for job in again]
    run(there, [job_by(Decoding(max_new_tokens=2), TOKENIZER, [3, 5] * 20)])  # so that nothing is still there by chance
    run(there, again)
    for one in fresh:
        one.tokens = complete(model, [one.prompt], set(), 10)[0]
    assert [job.tokens for job in again] == [job.tokens for job in fresh]
    assert [job.reused for job in again] == [39, 0 if name == "states" else 20]  # the last token was never read


@POOLS
def test_no_more_is_remembered_than_there_is_room_for(pool):
    there = engine(rows=2, remembers=90, pool=pool)
    for first in range(6):
        prompt = [1 + (first * 7 + i) % 40 for i in range(25)]
        run(there, [job_by(Decoding(max_new_tokens=5), TOKENIZER, prompt)])
        assert sum(map(len, there.room.known)) <= 90
    assert there.room.known


@pytest.mark.parametrize("echoes", [False, True])
def test_what_is_told_of_tokens_is_what_the_model_says_of_them(echoes):
    prompt = PROMPTS[3]
    job = job_by(Decoding(by=Random(), rules=(Frequency(amount=1.0),), max_new_tokens=6), TOKENIZER, prompt, tells=2, echoes=echoes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "PREFILL", 4)
        run(engine(), [job])
    whole = torch.tensor([[*prompt, *job.tokens]])
    with torch.no_grad():
        logprobs = MODEL(whole, SequenceLayout.rows(*whole.shape))[0].log_softmax(-1)
    told = job.told if echoes else [None] * len(prompt) + job.told
    assert len(told) == whole.shape[1] + (job.ended == "end")
    if echoes:
        assert told[0] == (prompt[0], None, [])
    for place in range(1 if echoes else len(prompt), whole.shape[1]):
        its = logprobs[place - 1]
        assert told[place].token == int(whole[0, place])
        assert told[place].logprob == pytest.approx(float(its[whole[0, place]]), abs=1e-5)
        assert [logprob for _, logprob in told[place].likeliest] == pytest.approx(its.topk(2).values.tolist(), abs=1e-5)
        assert told[place].likeliest[0][0] == int(its.argmax())


def test_rows_that_no_token_has_take_their_share_of_what_is_told():
    prompt, known = PROMPTS[3], MODEL.config.vocab_size - 9
    job = job_by(Decoding(max_new_tokens=6), TOKENIZER, prompt, tells=3, echoes=True)
    run(Engine(MODEL, {TOKENIZER.end}, known), [job])
    whole = torch.tensor([[*prompt, *job.tokens]])
    with torch.no_grad():
        logprobs = MODEL(whole, SequenceLayout.rows(*whole.shape))[0].log_softmax(-1)
    for place in range(1, whole.shape[1]):
        assert job.told[place].logprob == pytest.approx(float(logprobs[place - 1, whole[0, place]]), abs=1e-5)
        assert all(token < known for token, _ in job.told[place].likeliest)


def test_a_prompt_can_be_read_alone():
    job = Job(PROMPTS[0], lambda logits: 0, limit=0, tells=1, echoes=True)
    run(engine(), [job])
    assert (job.tokens, job.ended, len(job.told)) == ([], "length", len(PROMPTS[0]))


def test_the_end_of_the_room_ends_a_text():
    job = job_by(Decoding(by=Greedy(), max_new_tokens=500), TOKENIZER, PROMPTS[0])
    there = Engine(MODEL, set(), TOKENIZER.vocab_size, capacity=len(PROMPTS[0]) + 4)
    run(there, [job])
    assert (len(job.tokens), job.ended) == (4, "length")
    with pytest.raises(DataError, match="there is room for"):
        there.add(Job([1] * (len(PROMPTS[0]) + 4), lambda logits: 0, limit=1))


def test_what_an_engine_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="are of a whole engine"):
        job_by(Decoding(draft=Ngram()), TOKENIZER, PROMPTS[0])
    with pytest.raises(ConfigError, match="writes about passages"):
        Engine(T5Config(vocab_size=48, d_model=16, n_layers=1, n_heads=2, d_ff=32).build(seed=0), {1})
    with pytest.raises(DataError, match="the prompt is empty"):
        engine().add(Job([], lambda logits: 0, limit=1))
    with pytest.raises(ConfigError, match="are not kept by place"):
        Engine(CACHES["states"].build(seed=0), {1}, pool=500)
    with pytest.raises(ConfigError, match="has no room for one text of capacity=64"):
        engine(pool=32)


def test_texts_that_begin_alike_have_whole_pages_in_common_and_do_not_write_to_them():
    there, prompt = engine(rows=4, capacity=64, pool=256, remembers=1000), [9 + i % 30 for i in range(45)]
    first = job_by(Decoding(max_new_tokens=3), TOKENIZER, prompt)
    run(there, [first])
    assert [len(pages) for pages in there.room.known.values()] == [2]  # 47 tokens, 32 to a page
    jobs = [job_by(Decoding(max_new_tokens=9), TOKENIZER, [*prompt[:40], own, 5]) for own in (7, 8, 9)]
    for job in jobs:
        there.add(job)
    there.step()
    assert sorted(there.room._used, reverse=True)[:2] == [4, 1]  # that of the first 32, by four; the others have one each
    finish(there, jobs)
    again = job_by(Decoding(max_new_tokens=3), TOKENIZER, [*prompt, *first.tokens, 7])
    run(there, [again])
    assert [job.reused for job in (*jobs, again)] == [40, 40, 40, 47]
    for job in (*jobs, again):
        assert job.tokens == complete(MODEL, [job.prompt], {TOKENIZER.end}, job.limit, vocab_size=48)[0]


def test_where_pages_run_out_texts_wait_and_are_read_again(monkeypatch):
    monkeypatch.setattr(room_module, "PAGE", 4)
    there, opened = engine(rows=8, pool=64), Counter[tuple[int, ...]]()
    count = there.room.open
    monkeypatch.setattr(there.room, "open", lambda ids, fresh: (opened.update([tuple(ids)]), count(ids, fresh))[1])
    decoding = Decoding(by=Random(temperature=1.2), max_new_tokens=30)
    jobs = [job_by(decoding, TOKENIZER, PROMPTS[i], seed=i, tells=1, echoes=i % 2 == 0) for i in range(6)]
    run(there, jobs)
    assert any(len(ids) > 14 for ids in opened), "no text was put back, though there was not room for all"
    for i, job in enumerate(jobs):
        assert (job.tokens, job.ended) == alone(decoding, PROMPTS[i], i)
        assert [one.token for one in job.told] == [*(job.prompt if job.echoes else ()), *job.tokens, *[TOKENIZER.end] * (job.ended == "end")]
    none_is_lost(there.room)


def test_right_guesses_are_taken_several_at_a_time(tmp_path):
    write_model(tmp_path, CONFIG, MODEL)  # it guesses what it will say
    there = engine(rows=3, draft=Draft(model=tmp_path, n_tokens=4))
    jobs = [job_by(Decoding(max_new_tokens=25), TOKENIZER, PROMPTS[i]) for i in (2, 5, 8)]
    for job in jobs:
        there.add(job)
    for _ in range(6):
        there.step()
    assert [job.tokens for job in jobs] == complete(MODEL, [job.prompt for job in jobs], {TOKENIZER.end}, 25, vocab_size=48)


def test_drawn_guesses_follow_their_texts_to_other_rows(small):
    drafter = Draft(model=small, n_tokens=2)
    there, decodings = engine(rows=4, draft=drafter), [Decoding(by=Random(), max_new_tokens=n) for n in (2, 20, 4, 20)]
    jobs = [job_by(decoding, TOKENIZER, PROMPTS[1 + 3 * i], seed=i) for i, decoding in enumerate(decodings)]
    run(there, jobs)
    for i, (decoding, job) in enumerate(zip(decodings, jobs, strict=True)):
        assert (job.tokens, job.ended) == alone(decoding.replace(draft=drafter), PROMPTS[1 + 3 * i], i)


SEARCHED = (
    Decoding(by=Beam(n_beams=3), max_new_tokens=9), Decoding(by=Beam(n_beams=2, sampler=Random(temperature=1.4)), max_new_tokens=7),
    Decoding(by=Beam(n_beams=4, groups=2, diversity=0.7), rules=(NoRepeatNGram(n=2),), stops=("a", "?"), max_new_tokens=8),
    Decoding(by=Contrastive(top_k=4), rules=(Repetition(factor=1.2),), max_new_tokens=8),
    Decoding(by=Beam(n_beams=2), contrast=DoLa(layers=(0,)), max_new_tokens=6),
)  # fmt: skip
CONTRASTED = (
    Decoding(contrast=DoLa(layers=(0, 1)), rules=(Repetition(factor=1.2),), max_new_tokens=8),
    Decoding(by=Random(temperature=0.9), contrast=DoLa(layers="high", relative_top=0.01), stops=("b",), max_new_tokens=8),
)


def mixed(count: int) -> list[tuple[Decoding, int]]:
    """Decodings of all kinds, each with the number of a prompt."""
    return [(((*SEARCHED, *CONTRASTED, *DECODINGS)[i % 10]), i) for i in range(count)]


@pytest.mark.parametrize("draft", [None, Ngram()])
def test_searches_and_contrasts_are_what_they_would_be_alone_beside_others(draft):
    there = engine(rows=4, beams=6, draft=draft)
    jobs = [job_by(decoding, TOKENIZER, PROMPTS[i], seed=i) for decoding, i in mixed(20)]
    run(there, jobs)
    assert there.waiting == there.live == 0
    for (decoding, i), job in zip(mixed(20), jobs, strict=True):
        assert (job.tokens, job.ended) == alone(decoding, PROMPTS[i], i)


def test_others_go_on_between_two_steps_of_a_search(monkeypatch):
    monkeypatch.setattr(apart_module, "PREFILL", 4)
    there = engine(rows=2, beams=8)
    searched = [job_by(Decoding(by=Beam(n_beams=n), max_new_tokens=12), TOKENIZER, PROMPTS[2]) for n in (4, 3, 8)]
    written = job_by(Decoding(max_new_tokens=12, rules=(LogitBias(biases={TOKENIZER.end: -100.0}),)), TOKENIZER, PROMPTS[0])
    for job in (*searched, written):
        there.add(job)
    there.step()
    assert (there.live, there.waiting) == (3, 1)  # 4 + 3 of 8 rows: the third search waits
    steps = 1
    while written.ended is None:
        there.step()
        steps += 1
    assert steps == 12
    assert all(job.ended is None for job in searched)
    assert (there.live, there.waiting) == (2, 1)
    there.drop(searched[0])
    there.drop(searched[2])
    assert (there.live, there.waiting) == (1, 0)
    finish(there, [searched[1]])
    assert (searched[1].tokens, searched[1].ended) == alone(Decoding(by=Beam(n_beams=3), max_new_tokens=12), PROMPTS[2], 0)
    assert there.live == there.waiting == 0


def test_searches_take_turns():
    there, endless = engine(beams=8), (LogitBias(biases={TOKENIZER.end: -100.0}),)
    by = Beam(n_beams=2, ends="never", length_penalty=9.0)
    jobs = [job_by(Decoding(by=by, rules=endless, max_new_tokens=n), TOKENIZER, PROMPTS[2]) for n in (10, 12)]
    for job in jobs:
        there.add(job)
    ended: list[Job] = []
    for step in range(40):
        if done := there.step():
            ended += done
            assert step >= 18  # neither is done before the other has gone as far
    assert ended == jobs


@pytest.mark.parametrize(("beside", "steps"), [(0, 24), (8, 24), (9, 12), (17, 8)])
def test_searches_read_about_as_many_rows_as_the_texts_beside_them(beside, steps):
    there, endless = engine(rows=17, beams=6), (LogitBias(biases={TOKENIZER.end: -100.0}),)
    written = [job_by(Decoding(rules=endless, max_new_tokens=40), TOKENIZER, PROMPTS[0]) for _ in range(beside)]
    by = Beam(n_beams=2, ends="never", length_penalty=9.0)
    searched = [job_by(Decoding(by=by, rules=endless, max_new_tokens=7), TOKENIZER, PROMPTS[1]) for _ in range(3)]
    for job in (*written, *searched):
        there.add(job)
    count = 0
    while any(job.ended is None for job in searched):
        there.step()
        count += 1
    assert steps <= count <= steps + 4  # eight readings of each: one at a time, two, all three


@pytest.mark.parametrize("echoes", [False, True])
@pytest.mark.parametrize("decoding", [SEARCHED[0], SEARCHED[3], CONTRASTED[0]], ids=["beams", "contrastive", "contrast"])
def test_what_the_model_says_of_a_text_is_told_however_it_was_found(decoding, echoes, monkeypatch):
    monkeypatch.setattr(apart_module, "PREFILL", 3)
    for limit in (0, 8):
        job = job_by(decoding, TOKENIZER, PROMPTS[1], tells=2, echoes=echoes)
        job.limit = limit
        run(engine(), [job])
        ids = [*PROMPTS[1], *job.tokens, *([TOKENIZER.end] if job.ended == "end" else [])]
        with torch.no_grad():
            logprobs = MODEL(torch.tensor([ids]), SequenceLayout.rows(1, len(ids)))[0].log_softmax(-1)
        first = 1 if echoes else len(PROMPTS[1])
        told = [one for one in job.told if one.logprob is not None]
        assert [one.token for one in told] == ids[first:]
        assert [one.logprob for one in told] == pytest.approx([float(logprobs[i - 1, ids[i]]) for i in range(first, len(ids))], abs=1e-4)
        assert all(len(one.likeliest) == 2 for one in told)


class Fails(IdRule):
    """Fails once there are some tokens."""

    def shape(self, scores, texts):
        if any(len(text.new) >= 2 for text in texts):
            raise DataError("this rule has failed")
        return scores


def test_a_rule_that_fails_takes_no_other_text_with_it():
    there = engine()
    good = [job_by(decoding, TOKENIZER, PROMPTS[i], seed=i) for decoding, i in mixed(10)]
    bad = [job_by(Decoding(by=by, rules=(Fails(),)), TOKENIZER, PROMPTS[3]) for by in (Greedy(), Beam(n_beams=2))]
    for job in (*bad, *good):
        there.add(job)
    for _ in range(400):
        there.step()
    assert [str(job.fault) for job in bad] == ["this rule has failed"] * 2
    assert there.live == there.waiting == 0
    for (decoding, i), job in zip(mixed(10), good, strict=True):
        assert (job.tokens, job.ended) == alone(decoding, PROMPTS[i], i)


def test_a_search_that_there_is_no_room_for_is_refused():
    with pytest.raises(DataError, match="follows 9 ways at once, and there is room for 8"):
        engine(beams=8).add(job_by(Decoding(by=Beam(n_beams=9)), TOKENIZER, PROMPTS[0]))
    with pytest.raises(ConfigError, match="does not fit a model of 2 layers"):
        engine().add(job_by(Decoding(contrast=DoLa(layers=(5,))), TOKENIZER, PROMPTS[0]))


def test_guesses_that_stand_are_counted():
    guessed = job_by(Decoding(max_new_tokens=30), TOKENIZER, PROMPTS[1] * 3)
    run(engine(draft=EarlyExit(n_layers=1)), [guessed])
    assert 0 < guessed.stood < guessed.guessed
    plain = job_by(Decoding(max_new_tokens=30), TOKENIZER, PROMPTS[1] * 3)
    run(engine(), [plain])
    assert guessed.tokens == plain.tokens
    assert (plain.guessed, plain.stood) == (0, 0)
