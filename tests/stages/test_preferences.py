"""From pairs to a reward model, to what it is worth, and to a policy that it pays."""

import json

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import Compared, Each, Fit, NextToken, Ordered, Unpaired
from bloomery.data.encodings import Chat
from bloomery.data.pairs import Pairs, Rankings, Verdicts
from bloomery.models import RegressionConfig, read_model
from bloomery.nn import LastPoolingConfig, SequenceLayout
from bloomery.nn.adapters import LoRA
from bloomery.objectives import DPO, KTO, BradleyTerry, Models, OverBudget, PolicyGradient, RankedDPO
from bloomery.optim import LastLayers
from bloomery.stages import look_back
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.paired import Way
from bloomery.stages.policies import Policies
from bloomery.stages.preferences import Judged, Preferences, wilson
from bloomery.stages.prepare import Prepare, documents
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.train import Share, Watch
from bloomery.store import Store, read_json
from bloomery.text.chat import ChatTemplate
from bloomery.text.instructions.preferences import preference_of
from bloomery.text.readers import TaleContinuations, TalePreferences
from bloomery.text.tales import Tales
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.credit import LeaveOneOut
from bloomery.train.earnings import Earns
from bloomery.train.rewards import Answer, Likelier, Scored, TrueTale
from bloomery.train.rollouts import Rollout
from tests.stages.test_train import MODEL, TOKENIZER, training

TALES = Tales(size="tiny")
RANKED = Prepare(name="pairs", source=TalePreferences(tales=TALES, count=24))
PAIRS = Tokenize(name="pairs", corpus=RANKED, tokenizer=TOKENIZER, encoding=Pairs())
LONG = MODEL.replace(max_seq_len=1024)


def trained(**changes):
    return training(**{"ema": None, "watch": Watch(), "steps": 2, "packing": Fit(), "max_seq_len": 1024, "batch_tokens": 2048} | changes)


BASE = trained(name="base", init=Scratch(model=LONG), packing=Fit())
REWARD = trained(
    name="reward", init=HeadsOn(init=Continue(base=BASE), heads=(RegressionConfig(name="reward", pooling=LastPoolingConfig()),)),
    sources=(Share(tokens=PAIRS),), task=Compared(), objective=BradleyTerry(),
)  # fmt: skip
DIRECT = trained(name="direct", init=Continue(base=BASE), sources=(Share(tokens=PAIRS),), task=Compared(), objective=DPO(reference=BASE))


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, trackers=())


def conversations(context):
    """Both sides of each pair as ids, with what of them the completion is."""
    tokenizer = Tokenizer.load(BASE.run(context).checked("tokenizer/tokenizer.json"))
    for batch in documents(RANKED.run(context)):
        for row in batch.to_pylist():
            preference = preference_of(row["messages"], row["meta"])
            yield row["id"], [ChatTemplate().render([*preference.prompt, *one.messages], tokenizer) for one in preference.completions]


def rewards_of(context, ids) -> float:
    model = read_model(REWARD.run(context).path / "model")[1].eval()
    tokens = torch.tensor([ids])
    with torch.no_grad():
        return float(model.scores(tokens, SequenceLayout.rows(*tokens.shape))["reward"][0, 0, 0])


def test_a_reward_model_is_examined_pair_by_pair(context):
    made = Preferences(name="reward", model=REWARD, head="reward", pairs=PAIRS, max_seq_len=1024).run(context)
    lines = {one["id"]: one for one in map(json.loads, (made.path / "pairs.jsonl").read_text().splitlines())}
    apart, longer = [], []
    for name, (better, worse) in conversations(context):
        longer.append(0.5 * (1 + np.sign(sum(better.mask) - sum(worse.mask))))
        b, w = rewards_of(context, better.ids), rewards_of(context, worse.ids)
        assert (lines[name]["better"], lines[name]["worse"]) == pytest.approx((b, w), abs=2e-5)
        apart.append(b - w)
    found = read_json(made.path / "results.json")
    assert found["pairs"] == len(lines) == len(apart)
    assert found["longer_is_better"] == pytest.approx(np.mean(longer))
    assert found["accuracy"] == pytest.approx(np.mean(np.array(apart) > 0))
    assert found["nll"] == pytest.approx(np.mean(np.log1p(np.exp(-np.array(apart)))), abs=1e-5)


def test_a_policy_is_examined_by_its_likelihoods_less_those_before(context):
    made = Preferences(name="direct", model=DIRECT, before=BASE, beta=0.5, pairs=PAIRS, max_seq_len=1024).run(context)
    models = [read_model(one.run(context).path / "model")[1].eval() for one in (DIRECT, BASE)]
    apart = []
    for _, sides in conversations(context):
        worth = []
        for side in sides:
            ids, mask = torch.tensor([side.ids]), torch.tensor(side.mask)[1:]
            with torch.no_grad():
                now, then = (torch.log_softmax(m(ids, SequenceLayout.rows(*ids.shape))[0, :-1], -1) for m in models)
            worth.append(float((now - then).gather(1, ids[0, 1:, None])[:, 0][mask].sum()))
        apart.append(0.5 * (worth[0] - worth[1]))
    assert read_json(made.path / "results.json")["nll"] == pytest.approx(np.mean(np.log1p(np.exp(-np.array(apart)))), abs=1e-4)


def test_what_a_reward_model_says_of_an_answer_is_what_it_says_of_the_document(context):
    reward = Scored(by=REWARD)
    sides = [side.ids for _, both in conversations(context) for side in both][:5]
    answers = [Answer(document="", prompt="", text="", expected="", ids=ids, begins=3, ended=True) for ids in sides]
    model = read_model(REWARD.run(context).path / "model")[1].eval()
    scores = reward.scores(answers, Models(model, {REWARD.address: model}))
    assert scores == pytest.approx([rewards_of(context, ids) for ids in sides], abs=1e-5)
    with pytest.raises(ConfigError, match="none of the heads"):
        Scored(by=REWARD, head="other").scores(answers, Models(model, {REWARD.address: model}))


def test_a_policy_is_paid_by_a_reward_model(context):
    asked = Prepare(name="asked", source=TaleContinuations(tales=TALES, count=24))
    tokens = Tokenize(name="asked", corpus=asked, tokenizer=TOKENIZER, encoding=Chat())
    earns = Earns(rewards=(Scored(by=REWARD), TrueTale(weight=0.0)), credit=LeaveOneOut())
    paid = trained(
        name="paid", init=Continue(base=BASE), sources=(Share(tokens=tokens),), packing=Each(), healing=None, max_seq_len=1024,
        batch_tokens=4096, objective=PolicyGradient(clip=None, over=OverBudget(tokens=4)),
        rollout=Rollout(max_new_tokens=4, samples=2, earns=earns),
    )  # fmt: skip
    lines = [json.loads(line) for line in (paid.run(context).path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["reward"] == line["reward/scored"] != 0 for line in lines)
    assert all("reward/true_tale" in line for line in lines)


def test_policies_are_compared_by_what_a_reward_model_says(context):
    asked = Prepare(name="asked", source=TaleContinuations(tales=TALES, count=24))
    tokens = Tokenize(name="asked", corpus=asked, tokenizer=TOKENIZER, encoding=Chat())
    made = Policies(
        title="t", before=BASE, ways=(Way(name="direct", runs=(DIRECT,)),), prompts=tokens, rewards=(TrueTale(), Scored(by=REWARD, weight=0.0)),
        max_seq_len=1024, max_new_tokens=4, texts=6,
    ).run(context)  # fmt: skip
    found = read_json(made.path / "results.json")
    assert found["before"]["reward/scored"] != found["direct"][0]["reward/scored"] != 0
    assert found["before"]["kl"] == pytest.approx(0.0, abs=1e-5)


def test_how_much_likelier_an_answer_has_become_is_a_reward(context):
    answers, wanted = [], []
    tuned, before = (read_model(one.run(context).path / "model")[1].eval() for one in (DIRECT, BASE))
    for name, sides in list(conversations(context))[:3]:
        for side in sides:
            begins = side.mask.index(True)
            answers.append(Answer(document=name, prompt="", text="", expected="", ids=side.ids, begins=begins, ended=True))
            tokens = torch.tensor([side.ids])
            with torch.no_grad():
                told = [torch.log_softmax(one(tokens, SequenceLayout.rows(*tokens.shape))[0].double(), -1) for one in (tuned, before)]
            wanted.append([float(p[:-1].gather(1, tokens[0, 1:, None])[begins - 1 :].sum()) for p in told])
    models = Models(tuned, {DIRECT.address: tuned, BASE.address: before})
    found = Likelier(by=DIRECT, before=BASE, beta=0.5).scores(answers, models)
    assert found == pytest.approx([0.5 * (after - then) for after, then in wanted], abs=1e-4)
    assert Likelier(by=DIRECT).scores(answers, models) == pytest.approx([after for after, _ in wanted], rel=1e-5)
    shaped = {shape: Likelier(by=DIRECT, before=BASE, beta=0.5, shape=shape).scores(answers, models) for shape in ("log_sigmoid", "sigmoid")}
    assert shaped["log_sigmoid"] == pytest.approx([-np.log1p(np.exp(-one)) for one in found])
    assert shaped["sigmoid"] == pytest.approx([1 / (1 + np.exp(-one)) for one in found])


@pytest.mark.parametrize(("encoding", "changes"), [
    (Pairs(ratings="kept"), {"task": Compared(), "objective": DPO(reference=BASE)}),
    (Rankings(), {"task": Ordered(), "objective": RankedDPO(reference=BASE)}),
    (Verdicts(), {"task": Unpaired(), "objective": KTO(reference=BASE)}),
], ids=["pairs", "rankings", "verdicts"])  # fmt: skip
def test_preferences_are_learnt_from_in_every_form(context, encoding, changes):
    tokens = Tokenize(name=f"as_{encoding.kind().lower()}", corpus=RANKED, tokenizer=TOKENIZER, encoding=encoding)
    stage = trained(name=f"as_{encoding.kind().lower()}", init=Continue(base=BASE), sources=(Share(tokens=tokens),), **changes)
    lines = [json.loads(line) for line in (stage.run(context).path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(0.5 if isinstance(encoding, Verdicts) else np.log(2), abs=1e-4)  # at the reference itself
    assert lines[1]["loss"] != lines[0]["loss"]
    for wrong in (NextToken(), *({Compared(), Ordered(), Unpaired()} - {changes["task"]})):
        with pytest.raises(ConfigError, match=r"take (\w+\(\) with a loss|Tokenize\(encoding=|rows of)"):
            stage.replace(task=wrong)


def test_a_policy_on_which_an_adapter_is_trained_is_its_own_reference(context, monkeypatch):
    tuned = DIRECT.replace(name="tuned", adapter=LoRA(rank=2, targets=("mixer",)))
    made, of = [], look_back.frozen_models
    monkeypatch.setattr(look_back, "frozen_models", lambda *args: made.append((args, of(*args))) or made[-1][1])
    with_it = tuned.run(context)
    (*_, known), models = made[-1]
    (reference,) = models.values()
    assert known.keys() == {name for name, _ in reference.named_parameters()}
    assert all(parameter.data_ptr() == known[name].data_ptr() for name, parameter in reference.named_parameters())
    other = RunContext(store=Store(context.store.root.parent / "apart"), quiet=True, trackers=())
    monkeypatch.setattr(look_back, "frozen_models", lambda *args: of(*args[:-1]))
    assert tuned.run(other).file("model/model.safetensors").read_bytes() == with_it.file("model/model.safetensors").read_bytes()


def test_what_is_trained_is_not_shared_and_what_differs_neither(context, monkeypatch):
    made, of = [], look_back.frozen_models
    monkeypatch.setattr(look_back, "frozen_models", lambda *args: made.append((args[-1], of(*args))) or made[-1][1])
    DIRECT.replace(name="part", trainable=LastLayers(count=1)).run(context)
    known, (reference,) = made[0][0], made[0][1].values()
    shared = {name for name, parameter in reference.named_parameters() if name in known and parameter.data_ptr() == known[name].data_ptr()}
    assert shared == known.keys()
    assert "embedding.weight" in shared
    assert not any(name.startswith(f"blocks.{LONG.n_layers - 1}.") for name in shared)
    another = BASE.replace(name="another", seed=5)
    DIRECT.replace(name="elsewhere", objective=DPO(reference=another), adapter=LoRA(rank=2, targets=("mixer",))).run(context)
    known, (reference,) = made[-1][0], made[-1][1].values()
    assert not any(torch.equal(parameter, known[name]) for name, parameter in reference.named_parameters() if parameter.ndim > 1)


def test_sureness_is_compared_with_truth():
    sure = np.log(0.9 / 0.1)  # σ(sure) = 0.9
    judged = Judged(np.array([sure] * 8 + [-sure] * 2 + [0.0] * 10), np.array([3.0] * 5 + [-1.0] * 11 + [0.0] * 4))
    assert judged.figures["longer_is_better"] == pytest.approx((5 + 2) / 20)
    assert judged.figures["accuracy"] == pytest.approx((8 + 5) / 20)
    assert judged.bins == [(0.5, 0.5, 10), (pytest.approx(0.9), 0.8, 10)]
    assert judged.calibration_error == pytest.approx(0.05)


def test_the_interval_is_wilsons():
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_what_cannot_be_examined_is_refused(context):
    with pytest.raises(ConfigError, match="makes no pairs"):
        Preferences(model=REWARD, head="reward", pairs=Tokenize(corpus=RANKED, tokenizer=TOKENIZER, encoding=Chat()), max_seq_len=64)
    with pytest.raises(ConfigError, match="leave one out"):
        Preferences(model=REWARD, head="reward", before=BASE, pairs=PAIRS, max_seq_len=64)
    with pytest.raises(ConfigError, match="no head of its LlamaConfig that gives a number"):
        trained(init=Continue(base=BASE), sources=(Share(tokens=PAIRS),), task=Compared(), objective=BradleyTerry())
    with pytest.raises(ConfigError, match="none of Train/base"):
        Preferences(model=BASE, head="reward", pairs=PAIRS, max_seq_len=1024).run(context)
