"""The pages on what real stages have left: a tiny model that tells moods, two that talk, and everything that measures them."""

from __future__ import annotations

import json
import math
from urllib.parse import quote

import numpy as np
import pytest

from bloomery.evals import MultipleChoice, Prompt
from bloomery.models import SequenceClassificationConfig
from bloomery.stages.alignment import Alignment, Answers, LogitLens, PairedTexts
from bloomery.stages.assess import Assess
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.examine import Examine
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Watch
from bloomery.store import Store
from bloomery.text.readers import Files, Rows
from tests.stages.test_alignment import TALKS, chat
from tests.stages.test_tasks import LAST, LLAMA, MOOD, mood_rows, tokens, trained
from tests.stages.test_train import training
from tests.web.ui.places import HOSTILE, ask, served
from tests.web.ui.test_browser import LAYOUT, Looked, browser, serious
from tests.web.ui.views import BROWSER

__all__ = ["browser"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")]


def written(path, rows) -> Prepare:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Prepare(name=path.stem, source=Files(path=str(path), rows=Rows(form="columns")), filters=())


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A store, and what real stages have made in it."""
    folder = tmp_path_factory.mktemp("rows")
    context = RunContext(store=Store(tmp_path_factory.mktemp("store")), quiet=True, trackers=())
    moods = [written(folder / f"moods_{seed}.jsonl", mood_rows(np.random.default_rng(seed), 20)) for seed in range(2)]
    corpora, tokenizer = {"mood": tuple(moods)}, TrainTokenizer(corpora=tuple(moods), vocab_size=300)
    head = SequenceClassificationConfig(name="mood", n_labels=2, pooling=LAST)
    teller = trained(corpora, tokenizer, "mood", MOOD, LLAMA, head, name="teller", steps=3)
    base = training(name="base", steps=1, init=chat().init, watch=Watch())
    pairs = written(folder / "pairs.jsonl", [{"sent_more": HOSTILE, "sent_less": "The cook is sad!"}])
    rows = [{"q": f"Is it {i}?", "a": [HOSTILE, "no", "never"], "gold": i % 3} for i in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = Files(path=str(folder / "rows.jsonl"), rows=Rows(form="columns"))
    chosen = MultipleChoice(name="chosen", rows=table, prompts=(Prompt(ask="{q}"),), choices="a", gold="gold")
    stages = (
        Examine(model=teller, rows=tokens(corpora, tokenizer, "mood", MOOD, 1)),
        Evaluate(model=chat(), questions=TALKS, limit=4, max_new_tokens=4),
        Alignment(models=(base, chat()), probes=(PairedTexts(pairs=pairs, group_by=None), Answers(questions=TALKS, limit=2, samples=1)),
                  views=(LogitLens(prompt="<b>"),)),
        Assess(model=chat(), tasks=(chosen,), against=base),
    )  # fmt: skip
    return context.store, {stage.kind(): stage.run(context) for stage in stages}


@pytest.fixture(scope="module")
def there(real):
    with served(real[0]) as address:
        yield address


@pytest.mark.parametrize(("stage", "told"), [
    ("Examine", ("accuracy", "f1 macro", "sad", "%")), ("Evaluate", ("all questions", "expected", "log p expected")),
    ("Assess", ("chosen", "chat", "accuracy", "%")), ("Alignment", ("paired texts", "questions", "base", "chat", "change")),
])  # fmt: skip
def test_what_a_stage_has_measured_is_shown_whole(browser, real, there, stage, told, tmp_path):
    made = real[1][stage]
    for width in (1200, 390):
        looked = Looked(browser, viewport={"width": width, "height": 900})
        tab = looked.open(there, f"#/evaluate/{quote(made.reference, safe='')}")
        if stage != "Alignment":
            tab.select_option("#only", "")
            tab.wait_for_selector("article")
        for summary in tab.locator("details > summary").all():
            summary.click()
        shown = tab.inner_text("main")
        assert [words for words in told if words not in shown] == []
        assert not set("\x1b\u202e") & set(shown)
        assert tab.evaluate("window.hacked") is None
        assert tab.evaluate(LAYOUT) == []
        assert serious(tab) == []
        looked.check(there)
        tab.screenshot(path=tmp_path / f"{stage}-{width}.png", full_page=True)
        looked.tab.close()


def test_the_list_has_a_figure_of_each(real, there):
    found = ask(there, "/api/evaluations")[1]
    assert {one["reference"] for one in found} == {made.reference for made in real[1].values()}
    assert all(one["figures"] and one["models"] for one in found)


def test_what_was_told_of_rows_stands_beside_their_texts(real, there):
    found = ask(there, f"/api/answers?ref={quote(real[1]['Examine'].reference, safe='')}")[1]["answers"]
    assert len(found) == 20
    assert all(len(one["asked"].split()) == 6 for one in found)  # with the label itself, which the row has
    for one in found:
        assert [choice["text"] for choice in one["choices"]] == ["sad", "glad"]
        assert sum(choice["probability"] for choice in one["choices"]) == pytest.approx(1)
        assert max(one["choices"], key=lambda choice: choice["probability"])["text"] == one["said"]


def test_what_an_answer_was_told_to_be_is_what_the_model_says_when_it_is_asked(real, there):
    ref, compared = real[1]["Evaluate"].reference, 0
    for one in ask(there, f"/api/answers?ref={quote(ref, safe='')}")[1]["answers"]:
        asked = ask(there, f"/api/question?ref={quote(ref, safe='')}&id={quote(one['id'], safe='')}")[1]
        status, told, _ = ask(there, "/api/weigh", {"model": asked["model"], "messages": asked["messages"], "answers": one["expected"]})
        assert one["numbers"]["log_p_said"] < 0
        if status != 200:  # the stage cuts what is longer than the model reads
            assert "shorten it" in told["error"]
            continue
        compared += 1
        logs = [math.log(max(token["p"], 1e-6)) for (tokens,) in [told["answers"]] for token in tokens]
        assert sum(logs) == pytest.approx(one["numbers"]["log_p_expected"], rel=0.05)  # p is told to six digits
    assert compared
