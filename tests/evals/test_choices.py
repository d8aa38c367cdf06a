"""Multiple choice: every variant of accuracy beside the model's own words, examples that never give an answer away, calibration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.data.folds import Fold
from bloomery.evals import MultipleChoice, Prompt
from bloomery.evals.choices import calibration_error, f1_macro, judged, reliability, tenths
from bloomery.evals.metrics import f1, mean_average_precision
from bloomery.text.learned.metrics import calibration
from tests.evals.small import MODEL, SMALL, TOKENIZER, table, told, told_text

ROWS = [
    {"question": "what is red", "choices": ["a rose", "the sea", "snow is é"], "gold": 0},
    {"question": "who sings", "choices": ["a stone", "a lark"], "gold": 1},
    {"question": "where is it", "choices": ["here", "there it is", "nowhere", "x"], "gold": 2},
    {"question": "when", "choices": ["now", "then"], "gold": 0},
    {"question": "which one of these", "choices": ["a rose", "b", "cc"], "gold": 1},
]
PROMPT = Prompt(ask="Q: {question}?\nA:", alone="A:")


@pytest.fixture
def rows(tmp_path):
    return table(tmp_path / "asked.jsonl", ROWS)


@pytest.fixture
def more(tmp_path):
    return table(tmp_path / "more.jsonl", [{"question": f"and {i}", "choices": ["yes", "no"], "gold": i % 2} for i in range(6)])


def test_every_variant_is_that_of_the_models_own_likelihoods(rows):
    task = MultipleChoice(name="small", rows=rows, prompts=(PROMPT,))
    (sitting,) = task.sittings(SMALL)
    counts = {name: [] for name in sitting.outcomes[0].numbers}
    for row, outcome in zip(ROWS, sitting.outcomes, strict=True):
        answers = [" " + choice for choice in row["choices"]]
        given, alone = ([told_text(context, answer) for answer in answers] for context in (f"Q: {row['question']}?\nA:", "A:"))
        shares = np.exp(given) / np.exp(given).sum()
        scores = {
            "accuracy": given, "accuracy_per_character": [s / len(c) for s, c in zip(given, row["choices"], strict=True)],
            "accuracy_per_byte": [s / len(c.encode()) for s, c in zip(given, row["choices"], strict=True)],
            "accuracy_per_token": [s / len(TOKENIZER.encode(a)) for s, a in zip(given, answers, strict=True)],
            "accuracy_unconditional": [s - u for s, u in zip(given, alone, strict=True)],
        }  # fmt: skip
        for name, of in scores.items():
            counts[name].append(float(of.index(max(of)) == row["gold"]))
        counts["map_at_3"].append(mean_average_precision(np.array([given]), np.array([row["gold"]]), 3))
        counts["brier"].append(sum((p - (i == row["gold"])) ** 2 for i, p in enumerate(shares)))
        counts["confidence"].append(max(shares))
        assert [choice.logprob for choice in outcome.choices] == pytest.approx(given, abs=1e-4)
        assert [choice.probability for choice in outcome.choices] == pytest.approx(shares, abs=1e-4)
        assert outcome.said == row["choices"][given.index(max(given))]
        assert outcome.expected == (row["choices"][row["gold"]],)
    for name, values in counts.items():
        assert [one.numbers[name] for one in sitting.outcomes] == pytest.approx(values, abs=1e-4), name
        if name != "confidence":
            assert sitting.measures[name].value == pytest.approx(np.mean(values), abs=1e-4)
    assert {one.id for one in sitting.wrong} == {o.id for o, right in zip(sitting.outcomes, counts["accuracy"], strict=True) if not right}


def test_each_variant_can_choose_otherwise():
    answers, tokens = ["éé", "abc"], np.array([1, 3])

    def chosen(given, alone=(0.0, 0.0)):
        found = judged(answers, np.array(given), np.array(alone), tokens, 0, 3)
        return [name.removeprefix("accuracy") for name, right in found.items() if name.startswith("accuracy") and right]

    assert chosen([-2.1, -3.0]) == ["", "_per_byte", "_unconditional"]  # 1.05 and 1 a character, 0.525 and 1 a byte, 2.1 and 1 a token
    assert chosen([-3.0, -2.0], (-2.0, 0.0)) == ["_unconditional"]
    assert chosen([-0.5, -3.0], (0.0, -3.0)) == ["", "_per_character", "_per_byte", "_per_token"]


def test_labels_are_weighed_where_the_choices_are_listed(rows):
    letters = Prompt(name="letters", ask="{question}\n{choices}\n=", labels=("A", "B", "C", "D"), answer="{answer}")
    (sitting,) = MultipleChoice(name="small", rows=rows, prompts=(letters,)).sittings(SMALL)
    assert sitting.outcomes[1].asked == "who sings\nA. a stone\nB. a lark\n="
    assert [c.text for c in sitting.outcomes[1].choices] == ["A", "B"]
    assert sitting.outcomes[1].choices[1].logprob == pytest.approx(told_text("who sings\nA. a stone\nB. a lark\n=", "B"), abs=1e-4)


def test_examples_stand_before_every_question_and_are_none_of_them(rows, more):
    task = MultipleChoice(name="small", rows=rows, prompts=(PROMPT,), examples=more, shots=2, seed=3)
    (sitting,) = task.sittings(SMALL)
    _, shown, _ = task.parts()
    blocks = [f"Q: {r.columns['question']}?\nA: {['yes', 'no'][r.columns['gold']]}\n\n" for r in shown]
    assert len(set(blocks)) == 2
    assert sitting.before == "".join(blocks)
    row = ROWS[0]
    whole = [TOKENIZER.begin, *TOKENIZER.encode(f"{sitting.before}Q: {row['question']}?\nA:")]
    cut = whole[len(whole) + 7 - MODEL.config.max_seq_len :] if len(whole) + 7 > MODEL.config.max_seq_len else whole
    assert sitting.outcomes[0].choices[0].logprob == pytest.approx(told(cut, TOKENIZER.encode(" a rose")), abs=1e-4)
    assert task.replace(seed=4).parts()[1] != shown
    assert [row.id for row in task.parts()[0]] == [row.id for row in task.replace(shots=0).parts()[0]]


def test_an_example_that_is_asked_too_is_refused_or_left_out(rows, tmp_path):
    same = {"question": "  WHO  sings", "choices": ["A LARK", "you"], "gold": 0}  # with the same right answer
    both = table(tmp_path / "both.jsonl", [same, {"question": "new", "choices": ["a", "b"], "gold": 0}])
    task = MultipleChoice(name="small", rows=rows, prompts=(PROMPT,), examples=both, shots=1)
    with pytest.raises(DataError, match=r"1 of 2 examples .* are asked, too.*both.jsonl#L1 is .*asked.jsonl#L2"):
        task.parts()
    _, shown, notes = task.replace(overlap="leave_out").parts()
    assert [row.columns["question"] for row in shown] == ["new"]
    assert "1 of 2 examples" in notes[-1]
    with pytest.raises(DataError, match="fewer than shots=2"):
        task.replace(overlap="leave_out", shots=2).parts()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=4, max_size=40), st.integers(0, 5))
def test_a_fold_of_examples_is_never_asked(tmp_path_factory, numbers, seed):
    rows = table(tmp_path_factory.mktemp("fold") / "rows.jsonl", [{"question": f"q{n}", "choices": ["a", "b"], "gold": 0} for n in numbers])
    task = MultipleChoice(name="small", rows=rows, prompts=(PROMPT,), examples=Fold(number=0, of=2, seed=seed))
    try:
        asked, _, _ = task.parts()
        _, shown, _ = task.replace(shots=1).parts()
    except DataError as error:
        assert "fewer than" in str(error) or "no row to be asked" in str(error)  # noqa: PT017  (all fall on one side)
        return
    assert not {row.columns["question"] for row in shown} & {row.columns["question"] for row in asked}


def test_the_right_one_may_be_a_number_a_letter_or_a_text(tmp_path):
    columns = {"q": "?", "A": "red", "B": "blue"}
    for gold, number in ((1, 1), ("1", 1), ("B", 1), ("blue", 1), ("red", 0), (True, 1), (0.0, 0)):
        task = MultipleChoice(name="s", rows=table(tmp_path / "r.jsonl", [{**columns, "gold": gold}]), choices=("A", "B"),
                              prompts=(Prompt(ask="{q}"),))  # fmt: skip
        assert task.number(task.read()[0]) == number
    for gold in (2, -1, "green", "", 0.5, None):
        task = MultipleChoice(name="s", rows=table(tmp_path / "r.jsonl", [{**columns, "gold": gold}]), choices=("A", "B"),
                              prompts=(Prompt(ask="{q}"),))  # fmt: skip
        with pytest.raises(DataError, match=r"row '.*r.jsonl#L1'.*none of 2 choices"):
            task.sittings(SMALL)
    fewer = table(tmp_path / "r.jsonl", [{**columns, "A": "", "C": "green", "gold": "C"}, {**columns, "C": "", "gold": "A"}])
    task = MultipleChoice(name="s", rows=fewer, choices=("A", "B", "C"), prompts=(Prompt(ask="{q}"),))
    assert [(task.of(row), task.number(row)) for row in task.read()] == [(["blue", "green"], 1), (["red", "blue"], 0)]
    rows = table(tmp_path / "r.jsonl", [{"q": "?", "gold": True}])
    fixed = MultipleChoice(name="s", rows=rows, options=("no", "yes"), prompts=(Prompt(ask="{q}"),))
    (sitting,) = fixed.replace(k=1).sittings(SMALL)
    assert sitting.outcomes[0].expected == ("yes",)
    assert {"map_at_1", "f1_macro"} < sitting.measures.keys()
    assert sitting.measures["f1_macro"].value == sitting.measures["accuracy"].value  # of one row


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_f1_of_options_is_that_of_classes(pairs):
    right, said = (np.array(of) for of in zip(*pairs, strict=True))
    assert f1_macro(np.eye(9)[3 * right + said].sum(0)) == pytest.approx(f1(right, said, 3).macro)
    drawn = np.stack([np.eye(9)[3 * right + said].sum(0), np.eye(9)[0]])
    assert f1_macro(drawn) == pytest.approx([f1(right, said, 3).macro, 1])


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_the_calibration_error_is_that_of_tenths(pairs):
    confidence, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs])
    error, _ = calibration(confidence, right, np.ones(len(right)))
    assert calibration_error(tenths(confidence, right.astype(float)).sum(0)) == pytest.approx(error)


def test_a_diagram_has_each_question_in_one_tenth(rows):
    (sitting,) = MultipleChoice(name="small", rows=rows, prompts=(PROMPT,)).sittings(SMALL)
    found = reliability(sitting.outcomes)
    assert sum(one["examples"] for one in found) == len(ROWS)
    assert sum(one["examples"] * one["share"] for one in found) == pytest.approx(sum(o.numbers["accuracy"] for o in sitting.outcomes), abs=1e-3)


def test_some_rows_are_drawn_and_groups_are_their_columns(rows, more):
    task = MultipleChoice(name="small", rows=more, prompts=(Prompt(ask="{question}"),), limit=4, belongs="gold")
    asked = task.parts()[0]
    assert [row.id for row in asked] == sorted(row.id for row in asked)
    assert len(asked) == 4
    assert task.replace(seed=5).parts()[0] != asked
    assert task.sittings(SMALL)[0].measures["accuracy"].groups == [str(row.columns["gold"]) for row in asked]
    assert not math.isnan(task.sittings(SMALL)[0].measures["accuracy"].estimate().error)


@pytest.mark.parametrize(("fields", "said"), [
    ({"shots": 1}, "needs examples"), ({"prompts": (PROMPT, PROMPT)}, "different names"), ({"prompts": ()}, "at least 1"),
    ({"wordings": ("plan",)}, "the prompts are plain"), ({"examples": Fold(number=0, of=3, side="others")}, 'take side="this"'),
])  # fmt: skip
def test_tasks_that_cannot_be_are_refused(rows, fields, said):
    with pytest.raises(ConfigError, match=said):
        MultipleChoice(**{"name": "small", "rows": rows, "prompts": (PROMPT,)} | fields)


def test_rows_without_choices_are_named(tmp_path):
    task = MultipleChoice(name="s", rows=table(tmp_path / "r.jsonl", [{"q": "?", "choices": ["a"], "gold": 0}]), prompts=(Prompt(ask="{q}"),))
    with pytest.raises(DataError, match=r"task 's', row 'r.jsonl#L1': choices holds no list of two"):
        task.sittings(SMALL)
