"""Suites along a training: right answers without writing them, what is forgotten, when to stop and what to leave."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.data import Fit, TokenShards
from bloomery.data.encodings import Chat
from bloomery.mesh import ALONE
from bloomery.models import read_model
from bloomery.optim import AdamW, WarmupCosine
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Suite, Watch
from bloomery.store import Store
from bloomery.text.readers import TaleConversations, TaleStories
from bloomery.text.tales import Tales
from bloomery.train.stopping import Holds, Measured, Patience, forgotten, right_of
from bloomery.train.suites import answered, answers_in
from tests.stages.test_train import HELD_OUT, MODEL, WEIGHTS, interrupt, lines, training

ASKED = Prepare(name="talks", source=TaleConversations(tales=Tales(size="tiny"), count=6, questions=1))
STORIES = Prepare(name="stories", source=TaleStories(tales=Tales(size="tiny"), count=100))
WORDS = TrainTokenizer(name="words", corpora=(STORIES,), vocab_size=700)
TALKS = Tokenize(name="talks", corpus=ASKED, tokenizer=WORDS, encoding=Chat())
WATCHED = {
    "tokenizer": WORDS, "sources": (Share(tokens=TALKS),), "packing": Fit(), "max_seq_len": 256, "batch_tokens": 512, "ema": None,
    "steps": 60, "schedule": WarmupCosine(warmup=5),
    "init": Scratch(model=MODEL.replace(vocab_size=700, d_model=48, n_heads=4, max_seq_len=256)), "optimizer": AdamW(learning_rate=1e-2),
    "watch": Watch(suites=(Suite(tokens=TALKS),), every=30),
}  # fmt: skip
RISE = Patience(figure="held_out/aside/loss", better="higher", measurements=2)  # which it does not
STOPS = {"watch": Watch(held_out=(HELD_OUT,), every=2, tokens=256), "stop": RISE}


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, checkpoint_every_s=0.0)


@pytest.fixture(scope="module")
def watched(context):
    return training(name="watched", **WATCHED).run(context)


def test_right_answers_are_those_that_greedy_decoding_writes(watched, context):
    asked = Evaluate(model=training(name="watched", **WATCHED), questions=ASKED).run(context).manifest.summary
    measured = [line for line in lines(watched.path / "metrics.jsonl") if right_of("talks") in line]
    assert [line["step"] for line in measured] == [0, 30, 60]
    assert 0 < asked["exact_match"] < 1
    assert measured[-1][right_of("talks")] == asked["exact_match"]
    assert watched.manifest.summary[right_of("talks")] == asked["exact_match"]
    assert (watched.path / "watch.svg").read_text().startswith("<svg")


def test_rows_at_once_and_how_many_are_asked_change_nothing_else(watched, context):
    model, shards = read_model(watched.path / "model")[1], TokenShards.open(context.store.open(TALKS.reference))
    whole = answered(model, shards, time=256, rows=1, questions=1000, mesh=ALONE)
    assert answered(model, shards, time=256, rows=64, questions=1000, mesh=ALONE) == whole
    assert answered(model, shards, time=256, rows=1, questions=1, mesh=ALONE)[1] < whole[1]


def test_runs_of_learnt_places_are_told_apart():
    learnt = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 1, 1]]).bool()
    assert answers_in(learnt)[0].tolist() == [0, 0, 1, 2, 3, 3]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_what_is_forgotten_is_the_drop_from_the_best(shares):
    history = [Measured(step, {right_of("old"): share}) for step, share in enumerate(shares)]
    for i, share in enumerate(shares):
        lost = forgotten(history[:i], "old", share)
        assert lost == max(shares[: i + 1]) - share >= 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 3))
def test_patience_ends_when_nothing_has_become_better_for_so_long(values, patience):
    rule, history = Patience(figure="x", measurements=patience), []
    for step, value in enumerate(values):
        history.append(Measured(step, {"x": value}))
        verdict = rule.judge(history)
        assert verdict.best == values[: step + 1].index(min(values[: step + 1]))
        assert bool(verdict.reason) == (step - verdict.best >= patience)


def test_a_gate_leaves_the_last_weights_that_kept_the_old_suite():
    shares = [0.9, 0.95, 0.91, 0.85, 0.99]
    history = [Measured(10 * i, {right_of("old"): share}) for i, share in enumerate(shares)]
    rule = Holds(suite="old", share=0.95)
    assert [bool(rule.judge(history[: i + 1]).reason) for i in range(5)] == [False, False, False, True, True]
    assert rule.judge(history).best == 20
    assert "fallen to 85.0% from 95.0%, less than 95% of it" in rule.judge(history).reason


def test_a_run_that_stops_leaves_its_best_weights(context):
    stage = training(name="stopped", ema=None, **STOPS)
    stopped = stage.run(context)
    assert [line["step"] for line in lines(stopped.path / "metrics.jsonl") if "loss" in line and "learnt" in line] == [1, 2, 3, 4]
    summary = stopped.manifest.summary
    assert (summary["steps"], summary["left_step"]) == (4, 0)
    assert "has not become better than" in summary["stopped"]
    first = next(line for line in lines(stopped.path / "metrics.jsonl") if "held_out/aside/loss" in line)
    assert summary["held_out/aside/loss"] == first["held_out/aside/loss"]
    fresh = dict(MODEL.build(seed=0).named_parameters())
    assert all(torch.equal(fresh[name], p) for name, p in read_model(stopped.path / "model")[1].named_parameters())


def test_interrupted_before_and_after_it_has_decided_it_stops_alike(context, tmp_path, monkeypatch):
    stage, other = training(name="stopped", ema=None, **STOPS), replace(context, store=Store(tmp_path))
    interrupt(monkeypatch, stage, other, after=3)
    interrupt(monkeypatch, stage, other, after=4)
    resumed = stage.run(other)
    assert resumed.manifest.summary["left_step"] == 0
    assert resumed.manifest.summary["steps"] == 4
    assert resumed.manifest.files[WEIGHTS].sha256 == stage.run(context).manifest.files[WEIGHTS].sha256


@pytest.mark.parametrize(("changes", "message"), [
    (STOPS | {"stop": Patience(figure="held_out/elsewhere/loss")}, "is not measured; held_out/aside/bits"),
    (STOPS | {"stop": Holds(suite="farm")}, r"is none of the watch's; give it Watch\(suites=…\) would be"),
    ({"stop": Patience(figure="held_out/aside/loss"), "watch": Watch(held_out=(HELD_OUT,))}, "can decide at the end only"),
    (STOPS | {"keeps": "optimizer"}, "may leave weights of an earlier step"),
], ids=["figure", "suite", "period", "state"])  # fmt: skip
def test_rules_that_cannot_decide_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        training(**changes)


def test_a_suite_is_of_conversations():
    with pytest.raises(ConfigError, match="does not say what in it is an answer"):
        Suite(tokens=HELD_OUT)


def test_adding_a_rule_rekeys_nothing():
    assert json.dumps(training().identity()) == json.dumps(training(stop=None, watch=training().watch.replace(suites=())).identity())
