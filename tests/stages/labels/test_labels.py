"""Judgements: added and never changed, and what comes of them."""

from __future__ import annotations

import json
import sqlite3
import uuid

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bloomery.cli.main import cli
from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.stages.labels import Item, Judgement, Judgements, agreement, items_of, ranks_of, rows_of
from bloomery.stages.labels.agreement import cohen
from bloomery.stages.labels.judgements import SCHEMA
from bloomery.text.instructions import preference_of
from bloomery.text.readers import Files

ASK = ({"role": "user", "content": "How hot?"},)
TWO, THREE = Item(ASK, ("very", "not at all"), gold=(1, 2)), Item(ASK, ("a", "b", "c"))


@pytest.fixture
def judgements(tmp_path) -> Judgements:
    made = Judgements(tmp_path / "labels" / "first.sqlite")
    assert made.add_items([TWO, THREE]) == 2
    return made


def say(judgements: Judgements, item: Item, labeler: str, ranks=None, kind="ranks", token=None) -> bool:
    return judgements.add(Judgement(item.id, labeler, kind, ranks), token or uuid.uuid4().hex)


def test_what_is_sent_twice_is_there_once(judgements):
    assert say(judgements, TWO, "ann", (1, 2), token="a-token-of-it")
    assert not say(judgements, TWO, "ann", (1, 2), token="a-token-of-it")
    assert judgements.count() == len(judgements.standing()) == 1


def test_the_last_that_was_said_and_not_taken_back_stands(judgements):
    say(judgements, TWO, "ann", (1, 2))
    say(judgements, TWO, "ann", (2, 1))
    assert [one.ranks for one in judgements.standing()] == [(2, 1)]
    say(judgements, TWO, "ann", kind="undo")
    assert [one.ranks for one in judgements.standing()] == [(1, 2)]
    say(judgements, THREE, "ann", kind="skip")
    last = judgements.last_of("ann")
    assert last is not None
    assert last.item == THREE.id
    say(judgements, THREE, "ann", kind="undo")
    last = judgements.last_of("ann")
    assert last is not None
    assert last.item == TWO.id
    say(judgements, TWO, "ann", kind="undo")
    assert judgements.last_of("ann") is None
    assert judgements.standing() == []
    assert judgements.count() == 6


def test_no_judgement_is_ever_changed_or_removed(judgements):
    say(judgements, TWO, "ann", (1, 2))
    for change in ("DELETE FROM judgements", "UPDATE judgements SET labeler = 'ben'"):
        database = sqlite3.connect(judgements.path)
        with pytest.raises(sqlite3.IntegrityError, match="only added"):
            database.execute(change)
        database.close()
    assert [one.labeler for one in judgements.standing()] == ["ann"]


def test_everybody_comes_to_everything_and_what_fewest_have_judged_comes_first(judgements):
    say(judgements, TWO, "ben", (1, 2))
    item, done, of = judgements.next_for("ann")
    assert (item, done, of) == (THREE, 0, 2)
    say(judgements, THREE, "ann", (1, 1, 1))
    assert judgements.next_for("ann")[:2] == (TWO, 1)
    say(judgements, TWO, "ann", kind="skip")
    assert judgements.next_for("ann") == (None, 2, 2)


def test_answers_come_in_an_order_of_ones_own_and_the_same_each_time():
    orders = {tuple(THREE.order_for(f"person {n}")) for n in range(60)}
    assert len(orders) == 6
    assert THREE.order_for("ann") == THREE.order_for("ann")


@pytest.mark.parametrize(("judgement", "told"), [
    (Judgement("none", "ann", "ranks", (1, 2)), "no item 'none'"), (Judgement(TWO.id, "ann", "ranks", (1, 2, 3)), "none of 2 answers"),
    (Judgement(TWO.id, "ann", "ranks", (2, 2)), "none of 2 answers"), (Judgement(TWO.id, "ann", "ranks", (1, 3)), "none of 2 answers"),
    (Judgement(TWO.id, "ann", "ranks"), "one for each answer"), (Judgement(TWO.id, "ann", "skip", (1, 2)), "one for each answer"),
    (Judgement(TWO.id, "ann", "ranks", (1, 2), rates=(2, 4)), "not in the order"),
    (Judgement(TWO.id, "ann", "ranks", (1, 2), rates=(6, 1)), "1 to 5"),
    (Judgement(TWO.id, " ", "skip"), "needs a name"), (Judgement(TWO.id, "a" * 61, "skip"), "needs a name"),
], ids=str)  # fmt: skip
def test_what_is_no_judgement_is_refused(judgements, judgement, told):
    with pytest.raises(DataError, match=told):
        judgements.add(judgement, "a-token-of-it")
    assert judgements.count() == 0


def test_a_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ArtifactError, match=r"is no file of judgements"):
        Judgements(tmp_path / "x.sqlite")


def test_agreement_is_cohens():
    """20 of 50 yes from both, 15 no from both, 5 and 10 between: p = 0.7, p₀ = 0.5, κ = 0.4 (a known example)."""
    one = [1] * 25 + [0] * 25
    other = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen(one, other) == pytest.approx((0.4, 0.7))
    assert cohen([1, 1], [1, 1]) == (1.0, 1.0)


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=1, max_size=60))
def test_kappa_is_symmetric_and_one_for_the_same(pairs):
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    assert cohen(one, other) == pytest.approx(cohen(other, one))
    assert cohen(one, one)[0] == 1.0
    assert cohen(one, other)[0] <= 1.0 + 1e-12


def test_gold_items_tell_who_is_right(judgements):
    say(judgements, TWO, "ann", (1, 2))
    say(judgements, TWO, "ben", (2, 1))
    say(judgements, THREE, "ann", (1, 2, 3))
    say(judgements, THREE, "ben", (1, 3, 2))
    told = agreement(judgements.items(), judgements.standing())
    assert told.judged == {"ann": 2, "ben": 2}
    assert told.gold == {"ann": (1, 1), "ben": (0, 1)}
    kappa, same, pairs = told.between["ann", "ben"]
    assert (same, pairs) == (0.5, 4)
    assert told.kappa == kappa


def test_rows_are_what_all_find_on_average(judgements):
    say(judgements, THREE, "ann", (1, 2, 3))
    say(judgements, THREE, "ben", (1, 3, 2))
    say(judgements, TWO, "ann", (1, 2))
    say(judgements, TWO, "ben", (2, 1))  # who is right nobody can say
    (row,) = rows_of(judgements.items(), judgements.standing())
    assert row == {"prompt": "How hot?", "completions": ["a", "b", "c"], "ranks": [1, 2, 2], "labelers": 2, "agreed": False}
    assert rows_of(judgements.items(), judgements.standing(), least=3) == []
    say(judgements, THREE, "cat", kind="flag")
    assert rows_of(judgements.items(), judgements.standing()) == []


def test_rates_are_kept_as_they_were_said_and_rank_what_they_rate(judgements):
    for who, rates in (("ann", (5, 2, 2)), ("ben", (4, 3, 1))):
        judgements.add(Judgement(THREE.id, who, "ranks", ranks_of(rates), rates=rates), uuid.uuid4().hex)
    say(judgements, THREE, "cat", (1, 2, 3))
    assert [(one.ranks, one.rates) for one in judgements.standing()] == [((1, 2, 2), (5, 2, 2)), ((1, 2, 3), (4, 3, 1)), ((1, 2, 3), None)]
    (row,) = rows_of(judgements.items(), judgements.standing())
    assert (row["ranks"], row["rates"], row["labelers"]) == ([1, 2, 3], [4.5, 2.5, 1.5], 3)


def test_a_file_from_before_there_were_rates_goes_on(tmp_path):
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA.replace(", rates TEXT", ""))
    judgements = Judgements(path)
    judgements.add_items([TWO])
    judgements.add(Judgement(TWO.id, "ann", "ranks", (2, 1), rates=(1, 5)), "a-token-of-it")
    assert [one.rates for one in Judgements(path).standing()] == [(1, 5)]


def test_texts_of_one_prompt_belong_together():
    lines = [json.dumps({"number": n, "prompt": "p" if n < 6 else "q", "text": f"t{n % 5}"}) for n in range(7)]
    (item,) = items_of(lines)  # q has but one, and the fifth of p would stand alone
    assert (item.prompt[0]["content"], item.answers) == ("p", ("t0", "t1", "t2", "t3"))


@pytest.mark.parametrize("line", ["{", "[]", '{"prompt": 3, "answers": ["a", "b"]}', '{"prompt": "p"}', '{"prompt": "p", "answers": ["a"]}',
                                  '{"prompt": "p", "answers": ["a", "b"], "gold": [1]}', '{"prompt": "p", "text": "alone"}'])  # fmt: skip
def test_what_is_no_item_is_told(line):
    with pytest.raises(DataError):
        items_of([line])


def test_the_verb_takes_answers_in_and_writes_rows_that_are_read_as_preferences(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.jsonl").write_text(json.dumps({"prompt": "How hot?", "answers": ["very", "not at all"], "gold": [1, 2]}) + "\n")
    run = CliRunner().invoke(cli, ["label", "first", "--add", "answers.jsonl", "--store", "store"])
    assert "1 items are new, 0 were there" in run.output
    assert "0 items are new, 1 were there" in CliRunner().invoke(cli, ["label", "first", "--add", "answers.jsonl", "--store", "store"]).output
    judgements = Judgements(tmp_path / "store" / "labels" / "first.sqlite")
    say(judgements, judgements.items()[0], "ann", (2, 1))
    run = CliRunner().invoke(cli, ["label", "first", "--rows", "rows.jsonl", "--store", "store"])
    assert "rows.jsonl: 1 rows of 1 items" in run.output
    assert "ann: 1 ranked, 0 of 1 known pairs" in run.output
    (row,) = [row for batch in Files(path=str(tmp_path / "rows.jsonl")).batches() for row in batch.to_pylist()]
    found = preference_of(row["messages"], row["meta"])
    assert found is not None
    assert [c.messages[0]["content"] for c in found.completions] == ["not at all", "very"]


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_a_set_has_a_name_that_a_file_can_have(name, tmp_path):
    with pytest.raises(ConfigError, match="cannot be the name of a set"):
        CliRunner().invoke(cli, ["label", name, "--store", str(tmp_path)], standalone_mode=False, catch_exceptions=False)
