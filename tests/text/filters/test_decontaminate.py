"""What stands in a test must not stand in the corpus: found, named, dropped or masked, and nothing else touched."""

import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import Decontaminate, leak_report
from bloomery.text.readers import Files, TaleConversations, TaleStories
from bloomery.text.tales import Dirt, Tales


def documents(*texts):
    return to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)])


@pytest.fixture
def examination(tmp_path):
    """Makes a test of some items, whose ids end in "#L1", "#L2" and so on."""

    def make(*items, **fields):
        path = tmp_path / f"test{abs(hash(items))}.jsonl"
        path.write_text("".join(json.dumps({"text": item}) + "\n" for item in items))
        return Decontaminate(tests=(Files(path=str(path)),), **fields)

    return make


QUESTION = "Which of the seven rivers that cross the plain is the longest one of them all? The river Arn."
SHORT = "What is the tallest hill in the shire?"
TINY = "Is it so?"


def verdicts(filter, *texts):
    return [(r["id"], r["action"], r["reason"].split("#")[-1], r["value"]) for r in filter(documents(*texts)).table("f").to_pylist()]


def test_a_leak_is_found_whatever_its_case_and_punctuation_and_the_item_is_named(examination):
    filter = examination(SHORT, QUESTION)
    leaky = f"Some words. {QUESTION.upper().replace(' ', '  - ')} And others."
    found = filter(documents("Nothing of it.", leaky))
    assert verdicts(filter, "Nothing of it.", leaky) == [("d1", "drop", "L2", 1.0)]
    (span,) = found.spans.to_pylist()[1]
    assert leaky[span["start"] : span["end"]] == leaky[12:-13].rstrip(" .")
    assert found.table("f")["threshold"].to_pylist() == [0.3]


def test_items_shorter_than_a_run_are_looked_for_whole_and_tiny_ones_not_at_all(examination):
    filter = examination(SHORT, TINY)
    assert verdicts(filter, f"He asked: {SHORT}", "What is the tallest hill in the land?", TINY) == [("d0", "drop", "L1", 1.0)]
    assert [id.split("#")[-1] for id in filter.blind()] == ["L2"]


def test_the_share_decides(examination):
    words = [f"w{i}" for i in range(40)]
    half = " ".join(words[:26])  # 14 of 28 runs
    assert verdicts(examination(" ".join(words), max_share=0.49), half) == [("d0", "drop", "L1", 0.5)]
    assert verdicts(examination(" ".join(words), max_share=0.5), half) == []
    assert verdicts(examination(" ".join(words), max_share=0), " ".join(words[:13])) == [("d0", "drop", "L1", 1 / 28)]
    (measure,) = examination(" ".join(words))(documents(half, "clean")).measures
    assert measure.values.to_pylist() == [0.5, 0.0]


def test_runs_that_many_items_share_do_not_count(examination):
    form = "Read the passage and then choose the one right answer to the question below it"
    filter = examination(*(f"{form} {i} {' '.join(f'w{i}x{j}' for j in range(20))}" for i in range(12)))
    assert verdicts(filter, form) == []
    assert verdicts(examination(f"{form} a", f"{form} b"), form) == [("d0", "drop", "L1", 0.75)]
    assert len(examination(*[form] * 12).blind()) == 12


def test_masks_take_the_place_of_what_leaked(examination):
    filter = examination(QUESTION, SHORT, action="mask")
    found = filter(documents(f"One. {QUESTION} Two. {SHORT}", "clean"))
    assert found.batch["text"].to_pylist() == ["One. [masked]. Two. [masked]?", "clean"]
    assert found.dropped.to_pylist() == [False, False]
    assert [(s["start"], s["end"]) for s in found.spans.to_pylist()[0]] == [(5, 13), (20, 28)]
    assert filter(found.batch).table("f").num_rows == 0


def test_a_mask_never_makes_a_new_leak(examination):
    filter = examination("a b c d e f g masked h i j", SHORT, action="mask")
    text = filter(documents(f"a b c d e f g {SHORT} h i j"))
    assert text.batch["text"].to_pylist() == ["[masked]"]


def test_a_conversation_goes_whole(examination):
    talk = conversation("d0", "s", [{"role": "user", "content": SHORT}, {"role": "assistant", "content": "The Knoll."}])
    found = examination(SHORT, action="mask")(to_batch([talk, Document("d1", SHORT, "s")]))
    assert found.dropped.to_pylist() == [True, False]
    assert found.batch["text"].to_pylist() == [talk.text, "[masked]?"]
    halves = [{"role": "user", "content": "What is the tallest"}, {"role": "assistant", "content": "hill in the shire?"}]
    assert examination(SHORT)(to_batch([conversation("d0", "s", halves)])).dropped.to_pylist() == [True]


def test_the_report_says_for_each_item_where_it_leaked(examination):
    filter = examination(QUESTION, SHORT)
    batches = documents("clean", f"{SHORT} {QUESTION}"), documents("clean"), documents(SHORT)
    tables = [filter.leaks(batch) for batch in batches]
    report = [(r["item"].split("#")[-1], r["documents"], r["share"]) for r in leak_report(tables).to_pylist()]
    assert report == [("L1", ["d1"], 1.0), ("L2", ["d1", "d0"], 1.0)]
    assert leak_report([]).num_rows == 0


def test_impossible_settings_are_refused_and_the_filter_travels(examination):
    with pytest.raises(ConfigError, match=r"min_words=9 is above words=8"):
        examination(SHORT, words=8, min_words=9)
    filter = examination(SHORT)
    assert pickle.loads(pickle.dumps(filter))(documents(SHORT)).dropped.to_pylist() == [True]


words = st.lists(st.sampled_from(["a", "B.", "c", "D"]), max_size=9).map(" ".join)


@settings(deadline=None, max_examples=80)
@given(st.lists(words, min_size=1, max_size=4), st.lists(words, min_size=1, max_size=4), st.floats(0, 1), st.integers(1, 3))
def test_shares_equal_the_naive_way(tmp_path_factory, items, texts, max_share, max_items):
    path = tmp_path_factory.mktemp("t") / "test.jsonl"
    path.write_text("".join(json.dumps({"text": item}) + "\n" for item in items))
    filter = Decontaminate(tests=(Files(path=str(path)),), words=4, min_words=2, max_share=max_share, max_items=max_items)

    def runs(text, n):
        found = re.findall(r"\w", text.lower())
        return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}

    def own(item):
        length = len(re.findall(r"\w", item))
        return runs(item, min(4, length)) if length >= 2 else set()

    expected = []
    for text in texts:
        for item in items:
            mine = {run for run in own(item) if sum(run in own(other) for other in items) <= max_items}
            inside = {run for run in mine if run in runs(text, len(run))}
            if inside and len(inside) / len(mine) > max_share:
                expected.append(len(inside) / len(mine))
    assert sorted(filter.leaks(documents(*texts))["share"].to_pylist()) == pytest.approx(sorted(expected))


@pytest.mark.parametrize("tests", [
    (TaleStories(tales=Tales(split="held_out"), count=1000),), (TaleConversations(tales=Tales(split="held_out"), count=1000, questions=3),),
], ids=["stories", "conversations"])  # fmt: skip
def test_planted_leaks_are_found_and_clean_tales_stay(tests):
    planted = list(Dirt(seed=5, leaked_question=0.1).plant(Tales(), 800))
    dropped = np.array(Decontaminate(tests=tests)(documents(*(d.text for d in planted))).dropped.to_pylist())
    leaked = np.array([d.label == "leaked_question" for d in planted])
    assert dropped[leaked].mean() >= 0.95
    assert dropped[~leaked].mean() <= 0.01
