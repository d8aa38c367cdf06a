"""What is guessed and checked is what would have been written: token by token where nothing is drawn, and in distribution where it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generate.chance import chance
from tests.generate.peers import CONFIG, MODEL, PROMPTS, TOKENIZER

from bloomery.core.errors import ConfigError, DataError
from bloomery.generate import (
    Beam,
    Decoding,
    DoLa,
    Draft,
    EarlyExit,
    Frequency,
    Greedy,
    Ngram,
    NoRepeatNGram,
    Picks,
    Random,
    Repetition,
    Sampler,
    Text,
    Writer,
    complete,
    job_by,
)
from bloomery.generate.drafters import Lookup
from bloomery.models import T5Config, TransformerConfig, write_model
from bloomery.nn import GatedConfig, LayeredCache, Mamba2Config, SequenceLayout

SMALL = CONFIG.replace(d_model=16, n_layers=1, head_dim=4)
RULES = (Repetition(factor=1.3), Frequency(amount=0.3), NoRepeatNGram(n=3))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A model that guesses, and is right about one time in five."""
    folder = tmp_path_factory.mktemp("small")
    write_model(folder, SMALL, SMALL.build(3))
    return folder


@pytest.fixture(params=["draft", "early exit", "n-gram"])
def drafter(request, small):
    return {"draft": Draft(model=small, n_tokens=3), "early exit": EarlyExit(n_layers=1, n_tokens=5), "n-gram": Ngram(longest=2)}[request.param]


@pytest.mark.parametrize("which", [
    (5, 99, 7, 13), *(pytest.param(tuple(range(n, n + 35)), marks=pytest.mark.slow) for n in range(0, 210, 35)),
])  # fmt: skip
@pytest.mark.parametrize("fields", [
    pytest.param({}, id="plain"), pytest.param({"rules": RULES, "stops": ("a", "b", "?;")}, id="ruled"),
    pytest.param({"contrast": DoLa(layers=(0,))}, id="contrasted"),
])  # fmt: skip
def test_the_likeliest_text_is_the_same_in_batches_and_streams(drafter, which, fields):
    if "contrast" in fields and isinstance(drafter, EarlyExit):
        pytest.skip("refused: a contrasted model has no layers that its head reads")
    plain = Decoding(max_new_tokens=56, **fields)
    prompts = [PROMPTS[i] for i in which]
    writer, wanted = Writer(MODEL, TOKENIZER, plain.replace(draft=drafter)), Writer(MODEL, TOKENIZER, plain).write(prompts)
    assert writer.write(prompts, batch_rows=4) == wanted
    assert ["".join(writer.stream(prompt)) for prompt in prompts[:1]] == [one.text for one in wanted[:1]]


@given(which=st.lists(st.integers(0, 209), min_size=1, max_size=6), rows=st.integers(1, 4), ruled=st.booleans(), n=st.integers(1, 9))
@settings(max_examples=3)
def test_guesses_that_were_not_drawn_leave_a_seed_its_text(which, rows, ruled, n):
    plain = Decoding(by=Random(temperature=0.7, top_p=0.9), rules=RULES if ruled else (), stops=("a", "?;"), max_new_tokens=12)
    prompts = [PROMPTS[i] for i in which]
    drafted = Writer(MODEL, TOKENIZER, plain.replace(draft=Ngram(n_tokens=n)))
    assert drafted.write(prompts, which, batch_rows=rows) == Writer(MODEL, TOKENIZER, plain).write(prompts, which)


@given(which=st.lists(st.integers(0, 209), min_size=2, max_size=4), rows=st.integers(1, 4))
@settings(max_examples=2)
def test_drawn_guesses_do_not_depend_on_what_is_beside(small, which, rows):
    writer = Writer(MODEL, TOKENIZER, Decoding(by=Random(top_p=0.9), rules=RULES, max_new_tokens=12, draft=Draft(model=small)))
    alone = [writer.write([PROMPTS[i]], [i])[0] for i in which]
    assert writer.write([PROMPTS[i] for i in which], which, batch_rows=rows) == alone


@pytest.mark.parametrize(("sampler", "rules", "count"), [
    (Random(temperature=1.5, top_k=4), (Repetition(factor=1.5), NoRepeatNGram(n=1)), 800),
    *(pytest.param(sampler, rules, 10_000, marks=pytest.mark.slow) for sampler in (Random(temperature=1.5, top_k=4), Random(top_p=0.6))
      for rules in ((), (Repetition(factor=1.5), NoRepeatNGram(n=1)))),
], ids=str)  # fmt: skip
def test_texts_have_the_distribution_that_they_had(small, sampler, rules, count):
    prompt, new = PROMPTS[4], 3
    writer = Writer(MODEL, TOKENIZER, Decoding(by=sampler, rules=rules, max_new_tokens=new, draft=Draft(model=small, n_tokens=2)))
    told = Counter(tuple(one.tokens) for one in writer.write([prompt] * count, range(count), batch_rows=1000))
    wanted = exactly(sampler, rules, prompt, new)
    assert set(told) <= set(wanted)
    likely = [text for text, p in wanted.items() if p * count >= 5]
    seen, due = [told[text] for text in likely], [wanted[text] * count for text in likely]
    seen, due = [*seen, count - sum(seen)], [*due, count - sum(due)]
    assert len(likely) >= 8, likely
    assert chance(seen, due) > 1e-3


def exactly(sampler: Random, rules, prompt: list[int], new: int) -> dict[tuple[int, ...], float]:
    """The probability of each text of so many tokens, or of fewer and the end."""
    picks = Picks(sampler, [rule.ready(TOKENIZER) for rule in rules], [prompt], [0], TOKENIZER.end)
    open_, done = {(): 1.0}, dict[tuple[int, ...], float]()
    for _ in range(new):
        texts = [picks.texts[0].then(text) for text in open_]
        tokens = torch.tensor([text.ids for text in texts])
        with torch.inference_mode():
            p = sampler.probabilities(picks.scores(MODEL(tokens, SequenceLayout.rows(*tokens.shape))[:, -1], texts))
        further = {}
        for (text, before), row in zip(open_.items(), p, strict=True):
            for token in row.nonzero().flatten().tolist():
                if token == TOKENIZER.end:
                    done[text] = before * float(row[token])
                else:
                    further[*text, token] = before * float(row[token])
        open_ = further
    return done | open_


@given(seed=st.integers(0, 10_000), n=st.integers(0, 3))
@settings(max_examples=3)
def test_what_stands_of_drawn_guesses_is_distributed_as_if_none_were_made(seed, n):
    random = torch.Generator().manual_seed(seed)
    logits, others = (torch.randn(k, 5, generator=random) for k in (n + 1, n))
    sampler, count, firsts = Random(), 2000, Counter[int]()
    p, q = logits.softmax(-1), others.softmax(-1)
    for _ in range(count):
        guesses, by = sampler.guess_each(others, [random] * n) if n else (torch.zeros(0, dtype=torch.long), q)
        kept = sampler.checked(logits, guesses.tolist(), by, random)
        assert len(kept) <= n + 1
        assert kept[:-1] == guesses.tolist()[: len(kept) - 1]
        firsts[kept[0]] += 1
    assert chance([firsts[i] for i in range(5)], (p[0] * count).tolist()) > 1e-4


@pytest.mark.parametrize("by", [Greedy(), Random()], ids=str)
def test_ids_beyond_the_tokenizers_are_never_guessed(by, tmp_path):
    wide = CONFIG.replace(vocab_size=60)
    write_model(tmp_path, wide, wide.build(5))
    writer = Writer(wide.build(6).eval(), TOKENIZER, Decoding(by=by, max_new_tokens=20, draft=Draft(model=tmp_path)))
    told = writer.write(PROMPTS[:20], range(20))
    assert max(max(one.tokens, default=0) for one in told) < TOKENIZER.vocab_size


class Cycle(Sampler):
    """The token after the likeliest: a sampler that knows nothing of guesses."""

    def pick(self, logits, generator):
        return (logits.argmax(-1) + 1) % logits.shape[-1]


@pytest.mark.parametrize("by", [Greedy(), Cycle(), Random(temperature=0.01)], ids=str)
def test_guesses_stand_up_to_the_first_that_is_wrong(by):
    logits = 9.0 * torch.eye(6)[[2, 0, 3, 1]]
    right = by.pick(logits, torch.Generator()).tolist()
    for wrong in range(4):
        guess = [*right[:wrong], 5, 5, 5][:3]
        assert by.checked(logits, guess, None, torch.Generator()) == right[: wrong + 1]


def test_right_guesses_are_all_read_at_once(tmp_path):
    passes = Counter[int]()
    model = CONFIG.build(11).eval()
    write_model(tmp_path, CONFIG, model)
    writer = Writer(model, TOKENIZER, Decoding(max_new_tokens=30, draft=Draft(model=tmp_path, n_tokens=4)))  # it guesses what it will say
    read = model.features
    model.features = lambda tokens, *rest, **options: (passes.update([tokens.shape[1]]), read(tokens, *rest, **options))[1]
    (one,) = writer.write([PROMPTS[2]])
    assert [one.tokens] == complete(MODEL, [PROMPTS[2]], {TOKENIZER.end}, 30, vocab_size=48)
    assert len(one.tokens) == 30
    assert passes == {len(PROMPTS[2]): 1, 5: 6}  # the prompt, and five tokens each time


def test_a_place_is_guessed_from_the_last_one_that_tells_enough():
    look = Lookup(Ngram(n_tokens=3, longest=2))

    def behind(*ids, most=3):
        return look.guess([Text(list(ids))], [most], lambda *_: [], LayeredCache([])).tokens[0]

    assert behind(1, 2, 3, 4, 5, 1, 2) == [3, 4, 5]
    assert behind(1, 2, 3, 4, 5, 1, 2, most=1) == [3]
    assert behind(1, 2, 8, 8, 1, 2, 9, 9, 9, 1, 2) == [9, 9, 9]  # the last of them
    assert behind(7, 2, 3, 4, 5, 1, 2) == [3, 4, 5]  # not both tokens, but one
    assert behind(4, 4, 4) == [4]
    assert behind(1, 2, 3) == []
    assert behind(1) == []
    assert behind(1, 1, most=0) == []


@pytest.mark.parametrize(("fields", "message"), [
    ({"by": Beam(n_beams=2)}, r"Decoding\.draft=Ngram.* leave it out"),
    ({"reads": "both_ways"}, r"Decoding\.draft=Ngram.* leave it out"),
])  # fmt: skip
def test_what_is_not_picked_token_by_token_is_not_guessed(fields, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(draft=Ngram(), **fields)


def test_a_drafter_that_does_not_go_with_the_model_is_refused(small, tmp_path):
    short = SMALL.replace(max_seq_len=32)
    write_model(tmp_path / "short", short, short.build(0))
    few = SMALL.replace(vocab_size=40)
    write_model(tmp_path / "few", few, few.build(0))
    state = TransformerConfig(
        vocab_size=48, d_model=32, n_layers=1, max_seq_len=64, mixers=(Mamba2Config(head_dim=8, d_state=8),),
        feed_forwards=(GatedConfig(d_ff=32),),
    )  # fmt: skip
    write_model(tmp_path / "state", state, state.build(0))
    for draft, model, message in (
        (EarlyExit(n_layers=2), MODEL, "n_layers=2 leaves nothing of a model of 2 layers"),
        (EarlyExit(n_layers=1), DoLa(layers=(0,)).of(MODEL), "n_layers=1 are read by the head"),
        (Draft(model=tmp_path / "short"), MODEL, "reads 32 tokens"),
        (Draft(model=tmp_path / "few"), MODEL, "knows 40 tokens"),
        (Draft(model=tmp_path / "state"), MODEL, "cannot go back"),
        (Ngram(), state.build(0).eval(), "n_tokens=8 are read ahead"),
        (Ngram(), T5Config(vocab_size=48, d_model=16, n_layers=1, n_heads=2).build(0), "reads a passage"),
    ):
        with pytest.raises(ConfigError, match=message):
            Writer(model, TOKENIZER, Decoding(draft=draft))
    with pytest.raises(ConfigError, match="of a whole engine"):
        job_by(Decoding(draft=Ngram()), TOKENIZER, PROMPTS[0])
    with pytest.raises(DataError, match="prompt 1 is empty"):
        Writer(MODEL, TOKENIZER, Decoding(draft=Draft(model=small))).write([PROMPTS[0], []])
