"""An engine's texts come and go while others are being written, and each is what it would be alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generate.peers import MODEL, PROMPTS, TOKENIZER

from bloomery.core.errors import ConfigError, DataError
from bloomery.generate import Beam, Decoding, Engine, Frequency, Greedy, Job, NoRepeatNGram, Random, Repetition, Writer, job_by
from bloomery.generate import engine as engine_module
from bloomery.models import LlamaConfig, T5Config, TransformerConfig
from bloomery.nn import AttentionConfig, GatedConfig, LatentAttentionConfig, Mamba2Config, SequenceLayout

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


@given(
    which=st.lists(st.tuples(st.integers(0, 209), st.integers(0, 2)), min_size=1, max_size=9), rows=st.integers(1, 4),
    gaps=st.lists(st.integers(0, 4), min_size=9, max_size=9), remembers=st.sampled_from([0, 60, 10_000]), budget=st.integers(1, 40),
)
@settings(max_examples=8)
def test_each_text_is_what_it_would_be_alone_whenever_it_comes(which, rows, gaps, remembers, budget):
    there, jobs = engine(rows=rows, remembers=remembers), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "PREFILL", budget)
        for (prompt, decoding), gap in zip(which, gaps, strict=False):
            jobs.append(job_by(DECODINGS[decoding], TOKENIZER, PROMPTS[prompt], seed=prompt))
            there.add(jobs[-1])
            for _ in range(gap):
                there.step()
        finish(there, jobs)
    assert there.waiting == there.live == 0
    for (prompt, decoding), job in zip(which, jobs, strict=True):
        assert (job.tokens, job.ended) == alone(DECODINGS[decoding], PROMPTS[prompt], prompt)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8)
def test_those_that_stay_are_not_disturbed_by_those_that_are_dropped(seed):
    random = torch.Generator().manual_seed(seed)
    there = engine(rows=3, remembers=200)
    jobs = [job_by(DECODINGS[i % 3], TOKENIZER, PROMPTS[i], seed=i) for i in range(8)]
    for job in jobs:
        there.add(job)
    gone = set()
    for _ in range(60):
        there.step()
        if int(torch.randint(4, (), generator=random)) == 0:
            gone.add(which := int(torch.randint(8, (), generator=random)))
            there.drop(jobs[which])
    for i, job in enumerate(jobs):
        if i not in gone or job.ended is not None:
            assert (job.tokens, job.ended) == alone(DECODINGS[i % 3], PROMPTS[i], i)
    assert there.waiting == there.live == 0


def of(*mixers) -> TransformerConfig:
    return TransformerConfig(vocab_size=48, d_model=32, n_layers=2, max_seq_len=96, mixers=mixers, feed_forwards=(GatedConfig(d_ff=48),))


CACHES = {
    "keys and values": LlamaConfig(vocab_size=48, d_model=32, n_layers=2, n_heads=4, max_seq_len=96),
    "latents": of(LatentAttentionConfig(n_heads=4, d_latent=16, head_dim=8, rope_dim=4)),
    "states": of(Mamba2Config(head_dim=16, d_state=8), AttentionConfig(n_heads=4)),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_conversation_is_read_on_from_where_it_was(name):
    model = CACHES[name].build(seed=0).eval()
    there, first = Engine(model, set(), 48, rows=2, remembers=400), list(range(1, 31))
    job = job_by(Decoding(by=Random(), max_new_tokens=10), TOKENIZER, first)
    run(there, [job])
    assert job.reused == 0
    further = [*first, *job.tokens, 7, 8, 9]
    again = [job_by(Decoding(max_new_tokens=10), TOKENIZER, further), job_by(Decoding(max_new_tokens=10), TOKENIZER, [*first[:20], 40, 41])]
    fresh = [job_by(Decoding(max_new_tokens=10), TOKENIZER, job.prompt) for job in again]
    run(there, again)
    run(Engine(model, set(), 48, rows=2), fresh)
    assert [job.tokens for job in again] == [job.tokens for job in fresh]
    assert [job.reused for job in again] == [39, 0 if name == "states" else 20]  # the last token was never read


def test_no_more_is_remembered_than_there_is_room_for():
    there = engine(rows=2, remembers=90)
    for first in range(6):
        prompt = [1 + (first * 7 + i) % 40 for i in range(25)]
        run(there, [job_by(Decoding(max_new_tokens=5), TOKENIZER, prompt)])
        assert sum(map(len, there._known)) <= 90
    assert there._known


@pytest.mark.parametrize("echoes", [False, True])
def test_what_is_told_of_tokens_is_what_the_model_says_of_them(echoes):
    prompt = PROMPTS[3]
    job = job_by(Decoding(by=Random(), rules=(Frequency(amount=1.0),), max_new_tokens=6), TOKENIZER, prompt, tells=2, echoes=echoes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "PREFILL", 4)
        run(engine(), [job])
    whole = torch.tensor([[*prompt, *job.tokens]])
    with torch.no_grad():
        logprobs = MODEL(whole, SequenceLayout.rows(*whole.shape))[0, :, : TOKENIZER.vocab_size].log_softmax(-1)
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
    with pytest.raises(ConfigError, match="needs all rows of a text at once"):
        job_by(Decoding(by=Beam(n_beams=2)), TOKENIZER, PROMPTS[0])
    with pytest.raises(ConfigError, match="writes about passages"):
        Engine(T5Config(vocab_size=48, d_model=16, n_layers=1, n_heads=2, d_ff=32).build(seed=0), {1})
    with pytest.raises(DataError, match="the prompt is empty"):
        engine().add(Job([], lambda logits: 0, limit=1))
