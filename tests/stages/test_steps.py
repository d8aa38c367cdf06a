"""Answers judged step by step: where labels stand, that a head learns them, and what an answer is worth by them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.data import Fit, TellLabels
from bloomery.data.steps import Steps, step_ends
from bloomery.models import TokenClassificationConfig, read_model
from bloomery.objectives import HeadCrossEntropy, Models
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.train import Share
from bloomery.store import Store
from bloomery.text.readers import Files, Rows
from bloomery.text.tokenizer import Tokenizer
from bloomery.train.rewards import Answer, Stepwise
from tests.stages.test_preferences import BASE, trained
from tests.stages.test_train import TOKENIZER

STEPS = ["Two and one are three.", "Three and two are six.", "So: six."]
ROW = {"prompt": "How many are two and three?", "steps": STEPS, "verdicts": [1, -1, None]}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([f"{ROW['prompt']} {' '.join(ROW['steps'])}"] * 9, vocab_size=330)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    torch.set_num_threads(1)
    return RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, trackers=())


def test_verdicts_stand_where_steps_end(tokenizer):
    tokens, labels, cut = Steps(head="step").row(ROW, tokenizer)
    assert cut == 0
    assert list(labels.values()) == [1.0, 0.0]
    for at, step in zip(labels, ROW["steps"], strict=False):
        assert tokenizer.decode(tokens[: at + 1]).endswith(step)
        assert not tokenizer.decode(tokens[:at]).endswith(step)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abé ", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=4), st.integers(0, 99))
def test_each_step_ends_with_the_first_token_that_has_all_of_it(steps, seed):
    text, rng = "\n".join(steps), np.random.default_rng(seed)
    whole = text.encode()
    sizes = list[int]()
    while sum(sizes) < len(whole):
        sizes.append(min(int(rng.integers(1, 4)), len(whole) - sum(sizes)))
    ends = step_ends(text, "\n", sizes)
    assert len(ends) == len(steps)
    for number, end in enumerate(ends, start=1):
        wanted = len("\n".join(steps[:number]).encode())
        assert sum(sizes[:end]) < wanted <= sum(sizes[: end + 1])


def test_what_is_too_long_loses_its_prompt_then_its_last_steps(tokenizer):
    tokens, labels, _ = Steps(head="step").row(ROW, tokenizer)
    shorter, moved, cut = Steps(head="step", max_tokens=len(tokens) - 4).row(ROW, tokenizer)
    assert (cut, len(shorter)) == (4, len(tokens) - 4)
    assert list(moved) == [at - 4 for at in labels]
    shortest, left, _ = Steps(head="step", max_tokens=12).row(ROW, tokenizer)
    assert len(shortest) == 12
    assert len(left) < len(labels)


@pytest.mark.parametrize(("change", "message"), [
    ({"verdicts": [1]}, "give each step one"), ({"steps": ["a\nb", "c", "d"]}, "take another separator"),
    ({"steps": [], "verdicts": []}, "give each"),
])  # fmt: skip
def test_rows_that_cannot_be_are_refused(tokenizer, change, message):
    with pytest.raises(DataError, match=message):
        Steps(head="step").row(ROW | change, tokenizer)


def test_a_head_learns_verdicts_and_an_answer_is_worth_what_its_steps_are(context, tmp_path):
    rows = [ROW | {"prompt": f"{i} and {j}?", "steps": ["It is so.", "It is not so."], "verdicts": [1, 0]} for i in range(8) for j in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = Prepare(name="steps", source=Files(path=str(tmp_path / "rows.jsonl"), rows=Rows(form="columns")))
    tokens = Tokenize(name="steps", corpus=corpus, tokenizer=TOKENIZER, encoding=Steps(head="step"))
    fields = {"sources": (Share(tokens=tokens),), "packing": Fit(), "max_seq_len": 128, "batch_tokens": 512, "steps": 40,
              "task": TellLabels(classes=("step",)), "objective": HeadCrossEntropy(head="step")}  # fmt: skip
    judge = trained(
        name="judge", init=HeadsOn(init=Continue(base=BASE), heads=(TokenClassificationConfig(name="step", n_labels=2),)), **fields,
    )  # fmt: skip
    made = judge.run(context)
    lines = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step/right"] > lines[0]["step/right"] - 0.1
    assert lines[-1]["loss"] < lines[0]["loss"]
    model, tokenizer = read_model(made.path / "model")[1].eval(), Tokenizer.load(made.checked("tokenizer/tokenizer.json"))
    text = "It is so.\nIt is not so.\nIt is so."
    ids = [tokenizer.begin, *tokenizer.encode("1 and 2?")]
    said = tokenizer.encode(text)
    answer = Answer(
        document="", prompt="", text=text, expected="", ids=[*ids, *said, tokenizer.end], begins=len(ids), ended=True,
        sizes=tokenizer.byte_lengths[[*said, tokenizer.end]].tolist(),
    )  # fmt: skip
    silent = Answer(document="", prompt="", text="", expected="", ids=[*ids, tokenizer.end], begins=len(ids), ended=True, sizes=[0])
    models = Models(model, {judge.address: model})
    worth = {how: Stepwise(by=judge, worth=how).scores([answer, silent], models) for how in ("least", "product", "mean", "last")}
    assert all(of_silent == 0.0 for _, of_silent in worth.values())
    assert worth["product"][0] < worth["least"][0] < worth["mean"][0] < 1
    assert worth["least"][0] <= worth["last"][0]
    each = Stepwise(by=judge, worth="each")
    placed, nothing = each.placed([answer, silent], models)
    assert (list(placed), nothing) == (step_ends(text, "\n", answer.sizes), {})
    assert each.scores([answer, silent], models) == [pytest.approx(3 * worth["mean"][0]), 0.0]
    assert Stepwise(by=judge).placed([answer], models) is None
    with pytest.raises(ConfigError, match="none of the heads"):
        Stepwise(by=judge, head="other").scores([answer], models)
    with pytest.raises(ConfigError, match="TokenClassificationConfig"):
        trained(init=HeadsOn(init=Continue(base=BASE), heads=(TokenClassificationConfig(name="step", n_labels=3),)), **fields)
