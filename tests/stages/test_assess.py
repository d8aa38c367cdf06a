"""`Assess`: the page has every wrong answer, inert; figures are those of the tasks; differences are those of pairs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.evals import Generative, MultipleChoice, Prompt, TextLikelihood
from bloomery.generate import Decoding
from bloomery.models import BertConfig, T5Config
from bloomery.stages.assess import Assess, respondent
from bloomery.stages.assessment import Assessment
from bloomery.stages.init import Scratch
from bloomery.stages.left_by import LeftBy
from bloomery.stages.stage import RunContext
from bloomery.stages.train import Watch
from bloomery.store import Store, read_json
from tests.evals.small import BESIDE, CONFIG, SMALL, left, table
from tests.stages.test_train import MODEL, TALES, training

EVIL = "<script>alert('&')</script>"
PLAIN, OTHER = Prompt(ask="{q}?"), Prompt(name="other", ask="And {q}?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def tasks(folder):
    rows = [{"q": f"{EVIL} {i}", "a": [f"{EVIL} x", "y", "z z"], "gold": i % 3, "said": EVIL} for i in range(8)]
    chosen = MultipleChoice(name="chosen", rows=table(folder / "rows.jsonl", rows), choices="a", prompts=(PLAIN, OTHER))
    said = Generative(name="said", rows=chosen.rows, expected="said", prompts=(PLAIN,), decoding=Decoding(max_new_tokens=3))
    return chosen, said, TextLikelihood(name="texts", rows=chosen.rows, text="q")


@pytest.fixture(scope="module")
def assessment(tasks):
    return Assessment.of("Two <b>models", tasks, [SMALL, BESIDE])


def test_every_wrong_answer_can_be_read_and_nothing_on_the_page_runs(assessment):
    page = assessment.html()
    assert "<script" not in page
    assert "<b>models" not in page
    wrong = [sitting.wrong for of_model in assessment.sittings for sitting in of_model]
    assert sum(map(len, wrong)) > 8
    assert [int(n) for n in re.findall(r"(\d+) of 8 wrong", page)] == [len(wrong[i + 4 * m]) for i in range(3) for m in range(2)]
    assert page.count(">rows.jsonl#L") == sum(map(len, wrong))
    assert page.count("<svg") == 2


def test_tables_and_plain_data_tell_the_same_figures(assessment, tasks):
    plain, text = assessment.plain(), assessment.text()
    first = tasks[0].sittings(SMALL)[0].measures["accuracy"].estimate()
    told = plain["tasks"]["chosen"]["prompts"]["plain"]
    assert told["models"]["small"]["accuracy"] == first.plain()
    assert re.search(rf"accuracy +{re.escape(str(first))}", text)
    one, other = (told["models"][name]["accuracy"]["value"] for name in ("small", "beside"))
    assert told["difference"]["accuracy"]["value"] == pytest.approx(one - other)
    values = [of["models"]["beside"]["accuracy"]["value"] for of in plain["tasks"]["chosen"]["prompts"].values()]
    spread = plain["tasks"]["chosen"]["spread"]["beside"]["accuracy"]
    assert (spread["low"], spread["high"]) == (min(values), max(values))
    assert "spread" not in plain["tasks"]["said"]
    assert json.loads(json.dumps(plain)) == plain


def test_a_model_beside_none_has_no_differences(tasks):
    alone = Assessment.of("One", tasks[:1], [SMALL])
    assert alone.differences(0) == {}
    assert "less small" not in alone.text()
    assert "difference" not in alone.plain()["tasks"]["chosen"]["prompts"]["plain"]


def test_the_stage_leaves_page_figures_and_every_answer_and_reads_what_stages_left(store_folder, tasks):
    context = RunContext(store=Store(Path(store_folder)), quiet=True, trackers=())
    base, more = (training(name=name, init=Scratch(model=MODEL.replace(max_seq_len=128)), steps=steps, ema=None, watch=Watch())
                  for name, steps in (("base", 1), ("more", 2)))  # fmt: skip
    prepared = TextLikelihood(name="tales", rows=LeftBy(stage=TALES, split="held_out"), limit=3)
    artifact = Assess(model=more, tasks=(tasks[0], prepared), against=base).run(context)
    results = read_json(artifact.checked("results.json"))
    assert results["models"] == ["more", "base"]
    assert results["tasks"]["tales"]["prompts"]["text"]["models"]["more"]["bits_per_byte"]["of"] == 3
    lines = [json.loads(line) for line in artifact.checked("answers.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * (2 * 8 + 3)
    assert {line["model"] for line in lines} == {"more", "base"}
    assert artifact.manifest.summary["chosen: accuracy"] == pytest.approx(
        results["tasks"]["chosen"]["prompts"]["plain"]["models"]["more"]["accuracy"]["value"], abs=1e-6)  # fmt: skip
    assert "<h1>" in artifact.checked("assessment.html").read_text()


def test_what_cannot_be_told_apart_is_refused(tasks):
    with pytest.raises(ConfigError, match="give one of them another"):
        Assess(model=training(), tasks=tasks, against=training(steps=3))
    with pytest.raises(ConfigError, match="different names"):
        Assess(model=training(), tasks=(tasks[0], tasks[0]))


def test_what_does_not_go_on_with_a_text_is_refused(tmp_path):
    sizes = {"vocab_size": CONFIG.vocab_size, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 24, "max_seq_len": 32}
    for config, said in ((T5Config(**sizes), "writes about a passage"), (BertConfig(**sizes), "sees what comes after")):
        with pytest.raises(ConfigError, match=said):
            respondent(left(tmp_path, config.kind().lower(), config.build(0), config), "it", "cpu")
