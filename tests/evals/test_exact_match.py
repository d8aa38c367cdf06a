import math

import pytest

from bloomery.core.errors import DataError
from bloomery.evals import ExactMatch, Question, Score, questions_of

MESSAGES = [
    {"role": "user", "content": "story. Where?"}, {"role": "assistant", "content": "in the barn"},
    {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada"},
]


def test_each_assistant_turn_is_asked_with_the_true_turns_before_it():
    first, second = questions_of([("doc", MESSAGES, ["where", "who"])])
    assert (first.id, first.expected, first.kind) == ("doc#1", "in the barn", "where")
    assert [m["content"] for m in first.messages] == ["story. Where?"]
    assert [m["content"] for m in second.messages] == ["story. Where?", "in the barn", "Who?"]
    assert [q.kind for q in questions_of([("doc", MESSAGES, [])])] == ["", ""]


def test_exact_means_exact_but_for_white_space_around():
    task = ExactMatch(questions_of([("doc", MESSAGES, ["where", "who"])]))
    assert task.score([" in the barn\n", "Ada"]) == Score(2, 2)
    assert task.score(["In the barn", "Adam"]) == Score(0, 2)
    assert task.by_kind(["in the barn", "Bob"]) == {"where": Score(1, 1), "who": Score(0, 1)}


def test_every_wrong_answer_can_be_read():
    task = ExactMatch([Question("a", (), "x"), Question("b", (), "y")])
    assert [(j.question.id, j.answer) for j in task.judge(["x", "z"]) if not j.right] == [("b", "z")]


def test_an_answer_too_few_is_an_error_and_no_questions_too():
    with pytest.raises(ValueError):
        ExactMatch([Question("a", (), "x")]).score([])
    with pytest.raises(DataError, match="no questions"):
        ExactMatch([])


def test_standard_error_is_that_of_a_proportion():
    assert math.isclose(Score(80, 100).standard_error, 0.04)
    assert str(Score(80, 100)) == "80.0% ± 4.0% (80 of 100)"
