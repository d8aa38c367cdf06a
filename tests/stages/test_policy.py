"""A training that learns from what its texts earn: killed anywhere it ends in the same bytes, rewards rise, and what cannot be is refused."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Each
from bloomery.generate import Random
from bloomery.models import TaskModel, read_model
from bloomery.models.heads import ValueConfig
from bloomery.objectives import Entropy, OverBudget, PolicyGradient, ReferenceKL, ValueLoss
from bloomery.optim import AdamW, Constant, Doublings
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue
from bloomery.stages.paired import Way
from bloomery.stages.policies import Page, Policies
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Train, Watch
from bloomery.store import Store
from bloomery.train.credit import GAE, GroupRelative, LeaveOneOut
from bloomery.train.earnings import AdaptiveToll, Earnings, Earns, Toll
from bloomery.train.rewards import Answer, Format, Longer, Proxies, Verifiable
from bloomery.train.rollouts import Rollout, Rollouts
from tests.stages.test_train import HELD_OUT, WEIGHTS, interrupt, training

LEARN = {"ema": None, "watch": Watch(), "optimizer": AdamW(learning_rate=1e-2, weight_decay=0.0), "schedule": Constant(), "healing": None}
BASE = training(name="base", **LEARN | {"steps": 30, "batch_tokens": 512})
REWARDS = (Longer(tokens=12), Format(pattern=".*e.*", weight=0.5), Format(name="watched", pattern=".*t.*", weight=0.0))
ROLLOUT = Rollout(prompt_tokens=8, max_new_tokens=12)


class Vowels(Verifiable):
    """A reward for a test: their share of an answer."""

    def judge(self, answer: Answer) -> float:
        return sum(answer.text.count(vowel) for vowel in "aeiou") / max(1, len(answer.text))


def earns(credit, **changes) -> Earns:
    return Earns(**{"rewards": REWARDS, "credit": credit, "reference": BASE, "toll": Toll(beta=0.05)} | changes)


def rloo(**changes) -> Train:
    rollout = ROLLOUT.replace(samples=4, earns=earns(LeaveOneOut()))
    fields = {"init": Continue(base=BASE), "packing": Each(), "rollout": rollout, "steps": 6, "batch_tokens": 256}
    return training(name="rloo", **LEARN | fields | {"objective": PolicyGradient(clip=None, over=OverBudget(tokens=12))} | changes)


def ppo(**changes) -> Train:
    toll = AdaptiveToll(beta=0.05, target=0.1, horizon=20)  # so that β moves at once
    rollout = ROLLOUT.replace(every=4, epochs=2, earns=earns(GAE(), toll=toll))
    init = HeadsOn(init=Continue(base=BASE), heads=(ValueConfig(),), language_head=True)
    objective = PolicyGradient() + 0.1 * ValueLoss() + 0.01 * Entropy() + 0.01 * ReferenceKL()
    return rloo(**{"init": init, "rollout": rollout, "objective": objective, "steps": 10} | changes)


def grpo(**changes) -> Train:
    rollout = ROLLOUT.replace(samples=8, every=2, earns=earns(GroupRelative(flat="left_out"), toll=None))
    return rloo(rollout=rollout, objective=PolicyGradient(clip=(0.2, 0.28)) + 0.04 * ReferenceKL(estimator="k3"), **changes)


def dapo(**changes) -> Train:
    paid = earns(GroupRelative(flat="left_out"), toll=None, rewards=(Format(pattern=".*e.*"),))
    rollout = ROLLOUT.replace(samples=2, earns=paid, again=changes.pop("again", 3))
    return rloo(rollout=rollout, objective=PolicyGradient(clip=(0.2, 0.28)), **changes).replace(name="dapo")


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, checkpoint_every_s=0.0, trackers=())


def beside(context: RunContext, folder) -> RunContext:
    """Another store, in which the base lies already."""
    store = Store(folder)
    for one in (BASE.run(context), *(context.store.find(stage.reference) for stage in BASE.inputs().values())):
        there = folder / one.path.relative_to(context.store.root)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(one.path)
    return RunContext(store=store, quiet=True, checkpoint_every_s=0.0, trackers=())


def metrics(artifact) -> list[dict]:
    return [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("stage", "after"), [
    *(pytest.param(*case, marks=pytest.mark.slow) for case in ((rloo(), 3), (grpo(), 3), (ppo(), 2), (ppo(), 7), (dapo(), 3))), (ppo(), 4),
], ids=range(6))  # fmt: skip
def test_killed_in_the_middle_of_a_round_or_behind_it_it_ends_in_the_same_bytes(context, tmp_path, monkeypatch, stage, after):
    whole = stage.run(context)
    again = beside(context, tmp_path)
    interrupt(monkeypatch, stage, again, after)
    resumed = stage.run(again)
    assert resumed.file(WEIGHTS).read_bytes() == whole.file(WEIGHTS).read_bytes()
    for a, b in zip(metrics(whole), metrics(resumed), strict=True):
        assert {k: (v, b.get(k)) for k, v in a.items() if k not in ("tokens_per_s", "utilisation") and v != b.get(k)} == {}


SCRIPT = """
import sys, torch
from pathlib import Path
from bloomery.stages.stage import RunContext
from bloomery.store import Store
from tests.stages.test_policy import ppo
torch.set_num_threads(1)
ppo().run(RunContext(store=Store(Path(sys.argv[1])), quiet=True, checkpoint_every_s=0.0, trackers=()))
"""


@pytest.mark.parametrize("at", [pytest.param("rollout", marks=pytest.mark.slow), "update"])
def test_a_process_killed_while_it_writes_or_learns_goes_on_to_the_same_weights(context, tmp_path, at):
    whole, again = ppo().run(context), beside(context, tmp_path)
    patch = {
        "rollout": "import bloomery.train.rollouts as m\nof, seen = m.sampled, []\n"
                   "def killed(*a):\n    seen.append(1)\n    found = of(*a)\n    len(seen) < 2 or os.kill(os.getpid(), 9)\n    return found\n"
                   "m.sampled = killed\n",
        "update": "import bloomery.train.loop as m\nof, seen = m.clip_by_global_norm, []\n"
                  "def killed(*a):\n    seen.append(1)\n    len(seen) < 7 or os.kill(os.getpid(), 9)\n    return of(*a)\n"
                  "m.clip_by_global_norm = killed\n",
    }[at]  # fmt: skip
    child = subprocess.run([sys.executable, "-c", "import os\n" + patch + SCRIPT, str(tmp_path)], cwd=os.getcwd(), timeout=120, check=False)
    assert child.returncode == -signal.SIGKILL
    steps = len((again.store.path(ppo().reference + ".partial") / "metrics.jsonl").read_text().splitlines())
    assert 0 < steps < 10
    assert ppo().run(again).file(WEIGHTS).read_bytes() == whole.file(WEIGHTS).read_bytes()


def test_the_micro_batch_changes_nothing_but_rounding(context, tmp_path):
    found = []
    for rows in (1, 8):
        with_it = beside(context, tmp_path / str(rows))
        with_it = RunContext(store=with_it.store, quiet=True, micro_batch=rows, trackers=())
        found.append(metrics(ppo(steps=4).run(with_it)))
    for a, b in zip(*found, strict=True):
        assert a["reward"] == b["reward"]  # texts, and what they earn, to the bit: a round is written and judged before any of it is learnt
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-4)


def test_a_round_is_learnt_from_in_epochs_and_ages(context):
    lines = metrics(ppo().run(context))
    assert [line["age"] for line in lines] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    of_epoch = [[lines[i]["reward"] for i in range(first, first + 2)] for first in (0, 2)]
    assert sum(of_epoch[0]) == pytest.approx(sum(of_epoch[1]))  # the same texts, in another order
    assert lines[0]["moved"] == pytest.approx(0, abs=1e-5)
    assert lines[3]["moved"] > 1e-5
    betas = [line["beta"] for line in lines]
    assert len(set(betas[:4])) == 1
    assert betas[4] != betas[0]


def test_groups_that_teach_nothing_give_way_to_such_of_other_prompts(context, monkeypatch):
    seen, of = [], Rollouts.batch

    def batch(source, first_row, rows):
        found = of(source, first_row, rows)
        if rows == 8:
            prompts = found.samples.prompts.tolist()
            theirs = [span.id for prompt in prompts for span in source.source.documents(prompt, 1) if span.place == 0]
            seen.append((prompts, [span.id for span in source.documents(first_row, rows)] == theirs))
        return found

    monkeypatch.setattr(Rollouts, "batch", batch)
    lines = {again: metrics(dapo(again=again, seed=4).run(context)) for again in (0, 3)}
    assert lines[0][0]["flat"] > lines[3][0]["flat"]
    assert sum(line["flat"] for line in lines[3]) < 0.5 * sum(line["flat"] for line in lines[0])
    own = [[4 * step + i // 2 for i in range(8)] for step in range(6)]
    assert [prompts for prompts, _ in seen[:6]] == own
    others = [prompts for prompts, _ in seen[6:]]
    assert [[prompt % 24 for prompt in prompts] for prompts in others] == own
    assert max(map(max, others)) >= 24  # those that no round has of its own
    assert all(named for _, named in seen)


def test_what_is_paid_for_rises_and_the_divergence_is_paid_for(context):
    paid = earns(LeaveOneOut(), rewards=(Vowels(),), toll=None)
    rollouts = (ROLLOUT.replace(samples=4, earns=paid.replace(toll=toll)) for toll in (None, Toll(beta=1.0)))
    free, held = (metrics(rloo(rollout=rollout, steps=25).run(context)) for rollout in rollouts)
    first, last = (sum(line["reward/vowels"] for line in lines) / 5 for lines in (free[:5], free[-5:]))
    assert last > first + 0.1
    assert free[-1]["kl"] > held[-1]["kl"]


def test_what_the_watch_of_rewards_notices_is_told_where_it_was_and_in_the_end(context, monkeypatch):
    def note(watch: Proxies, step: int, figures: dict[str, float]) -> str:
        watch.told = watch.told or "over-optimised" * (step == 3)
        return watch.told if step == 3 else ""

    monkeypatch.setattr(Proxies, "note", note)
    made = rloo(seed=5, steps=4).run(context)
    assert [line.get("noticed", "") for line in metrics(made)] == ["", "", "over-optimised", ""]
    assert made.manifest.summary["over_optimised"] == "over-optimised"


class Early(Verifiable):
    """A reward for a test: half of it is earned on the first token."""

    def judge(self, answer: Answer) -> float:
        return float(answer.tokens)

    def placed(self, answers, models):
        return [{0: one.tokens / 2} | ({one.tokens - 1: one.tokens / 2} if one.tokens > 1 else {0: 1.0}) for one in answers]


def test_what_is_earned_on_the_way_is_worth_nothing_to_what_comes_after(context, monkeypatch):
    judged, judge = [], Earnings.judge
    monkeypatch.setattr(Earnings, "judge", lambda *args: judged.append((args[1], judge(*args))) or judged[-1][1])
    rewards = (Early(), Format(pattern=".*e.*", weight=0.5))
    credit = GAE(advantages="plain", trace=1.0)
    ppo(rollout=ROLLOUT.replace(earns=earns(credit, rewards=rewards, toll=None)), steps=1).run(context)
    ((rows, found),) = judged
    for text, drawn in enumerate(rows.loss_weight > 0):
        first, *_, last = np.flatnonzero(drawn)
        tokens, form = found.scores[text]
        assert found.returns[text, first] == pytest.approx(tokens + 0.5 * form, abs=1e-5)
        assert found.returns[text, last] == pytest.approx(tokens / 2 + 0.5 * form, abs=1e-5)


def test_policies_are_set_beside_what_they_were(context):
    page = Policies(
        name="page", title="Longer", before=BASE, ways=(Way(name="rloo", runs=(rloo(),)), Way(name="ppo", runs=(ppo(),))),
        prompts=HELD_OUT, prompt_tokens=8, rewards=(Vowels(),), max_seq_len=32, max_new_tokens=12, texts=16,
    ).run(context)  # fmt: skip
    found = json.loads((page.path / "results.json").read_text())
    assert found["before"]["kl"] == pytest.approx(0, abs=1e-4)
    assert all(run["kl"] > 0 for name in ("rloo", "ppo") for run in found[name])
    text = (page.path / "policies.txt").read_text()
    gain = 100 * (found["rloo"][0]["reward/vowels"] - found["before"]["reward/vowels"])
    assert f"{gain:+.1f}" in text
    assert "over-optimised" not in text
    told = Page("Longer", (Vowels(),), found["before"], {"rloo": found["rloo"]}, ["rloo_0, step 9: … the reward is over-optimised"])
    assert "rloo_0, step 9: … the reward is over-optimised" in told.text()


@pytest.mark.parametrize(("changes", "message"), [
    ({"rollout": None}, "learns from what the model writes; give Train.rollout"),
    ({"rollout": ROLLOUT}, "needs advantages of its rows"),
    ({"objective": PolicyGradient() + ReferenceKL(), "rollout": ROLLOUT.replace(earns=earns(LeaveOneOut(), reference=None, toll=None))},
     "needs reference of its rows"),
    ({"rollout": ROLLOUT.replace(samples=3, earns=earns(LeaveOneOut()))}, "does not part the 8 texts of a round into whole groups; 2 would"),
    ({"rollout": ROLLOUT.replace(samples=4, sampler=Random(temperature=0.5), earns=earns(LeaveOneOut()))}, "not that of Train.rollout.sampler"),
    ({"rollout": ROLLOUT.replace(samples=4, sampler=Random(top_p=0.9), earns=earns(LeaveOneOut()))}, "leave top_k and top_p"),
    ({"ramp": Doublings(at=(2,))}, "steps of several sizes"),
    ({"watch": Watch(held_out=(HELD_OUT,))}, "rows that the model did not write"),
    ({"objective": PolicyGradient() + ValueLoss(), "rollout": ROLLOUT.replace(earns=earns(GAE()))}, "no head for values"),
], ids=range(9))  # fmt: skip
def test_what_cannot_be_learnt_from_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        rloo(**changes)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: ROLLOUT.replace(every=3, epochs=2), "does not part a round of every=3 steps evenly; every=2 would do"),
    (lambda: earns(LeaveOneOut(), reference=None), "there is none; name one"),
    (lambda: earns(LeaveOneOut(), rewards=(Vowels(), Vowels())), "two named 'vowels'"),
    (lambda: earns(LeaveOneOut(), rewards=(Vowels(weight=0.0),)), "nothing to learn"),
    (lambda: ROLLOUT.replace(again=1), "there are none; give earns and samples"),
], ids=range(5))  # fmt: skip
def test_what_does_not_go_together_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_head_for_values_goes_with_the_model(context):
    _, model = read_model(ppo().run(context).path / "model")
    assert isinstance(model, TaskModel)
    assert "value" in model.heads
