"""What is told of measurements: figures with errors, every answer, what is ahead of what."""

from __future__ import annotations

from math import sqrt
from urllib.parse import urlencode

import pytest

from tests.web.ui.filled import TALK
from tests.web.ui.places import HOSTILE, ask


def told(address, path, **asked):
    status, said, _ = ask(address, f"/api/{path}?{urlencode(asked)}")
    assert status == 200, said
    return said


def test_all_that_was_measured_is_there_with_its_first_figure(address):
    said = {one["reference"]: one for one in told(address, "evaluations")}
    assert set(said) == {"Evaluate/before-4", "Evaluate/after-5", "Assess/main-6", "Alignment/main-7"}
    first = said["Evaluate/after-5"]["figures"][0]
    assert (first["value"], first["n"]) == (0.6, 5)
    assert first["error"] == pytest.approx(sqrt(0.6 * 0.4 / 5))
    assert said["Assess/main-6"]["figures"][0]["error"] == 0.1
    assert said["Alignment/main-7"]["figures"][0]["value"] == 0.5  # of the last model


def test_models_that_were_asked_the_same_are_compared_question_by_question(address):
    (other,) = told(address, "evaluation", ref="Evaluate/after-5")["beside"]
    assert (other["reference"], other["value"], other["n"]) == ("Evaluate/before-4", 0.4, 5)
    ahead = [-1, 1, -1, 1, 1]  # answer by answer
    mean = sum(ahead) / 5
    assert other["less"]["value"] == pytest.approx(mean)
    assert other["less"]["error"] == pytest.approx(sqrt(sum((x - mean) ** 2 for x in ahead) / 5 / 4))
    assert other["sure"] is False


def test_models_beside_each_other_have_what_was_measured_alike_in_one_row(address):
    found = told(address, "compared", refs="Train/talker-3,Train/base-1")
    rows = {(row["what"].rpartition(", ")[2], row["figure"]): row["of"] for row in found}
    assert {model: (one["value"], one["error"]) for model, one in rows["questions", "right"].items()} == {
        "Train/base-1": (0.25, 0.1), "Train/talker-3": (0.5, 0.1),
    }  # fmt: skip
    assert rows["all questions", "exact"]["Train/talker-3"]["value"] == 0.6  # of the newer of two that were asked the same
    assert list(rows["main", "accuracy"]) == ["Train/talker-3"]
    assert [row["what"].partition("-")[0] for row in found if row["figure"] == "exact"] == ["Prepare/talks"] * 3
    assert told(address, "compared", refs="Train/none-0") == []


def test_answers_are_found_by_whether_they_are_right_by_kind_and_by_words(address):
    def ids(**asked):
        return [one["id"] for one in told(address, "answers", ref="Evaluate/before-4", **asked)["answers"]]

    assert ids(only="right") == ["talk#0#1", "talk#1#1"]
    assert ids(only="wrong", group="sums") == ["talk#0#3", "talk#1#3"]
    assert ids(search="AND ONE?", only="right") == ["talk#0#1", "talk#1#1"]
    assert ids(search="and one?", start=3) == ["talk#1#3"]
    (odd,) = told(address, "answers", ref="Evaluate/before-4", group="odd")["answers"]
    assert odd["said"] == HOSTILE
    assert odd["asked"].startswith(HOSTILE)
    assert len(odd["asked"]) < 21_000  # of a million


def test_choices_come_with_their_probabilities(address):
    (wrong,) = told(address, "answers", ref="Assess/main-6", only="wrong")["answers"]
    assert (wrong["id"], wrong["expected"], [one["probability"] for one in wrong["choices"]]) == ("r1", ["b"], [0.75, 0.25])


def test_the_whole_conversation_before_an_answer_is_told(address):
    said = told(address, "question", ref="Evaluate/before-4", id="talk#1#3")
    assert said == {"model": "Train/talker-3", "messages": TALK[:3], "expected": "three"}


def test_alignment_is_told_before_and_after(address):
    said = told(address, "evaluation", ref="Alignment/main-7")
    rows = [["", "base", "talker", "change"], ["right", "25.0% ± 10.0", "50.0% ± 10.0", "+25.0 ± 14.1"]]
    assert said["tables"] == [{"probe": "questions", "rows": rows}]
    assert said["page"] == "alignment.html"
    assert said["examples"][0]["rows"] == [{"question": HOSTILE, "answer": "two"}]
