"""Readers that need no files of the user's: the standard library and the tales."""

import ast
import json

import pytest

from bloomery.core.errors import DataError
from bloomery.core.identity import content_key
from bloomery.text.chat import check_messages
from bloomery.text.readers import StandardLibrary, TaleConversations, TaleRows, TaleStories
from bloomery.text.tales import Dirt, Tales


def read(reader, after=None):
    return [row for batch in reader.batches(after) for row in batch.to_pylist()]


@pytest.mark.parametrize("reader", [
    StandardLibrary(packages=("json", "email")), TaleStories(count=9, first=3), TaleStories(count=9, dirt=Dirt()), TaleConversations(count=9),
    TaleRows(count=9),
])  # fmt: skip
def test_reading_goes_on_behind_any_document(reader):
    rows = read(reader)
    assert len({row["id"] for row in rows}) == len(rows) > 5
    for i, row in enumerate(rows):
        assert read(reader, after=row["id"]) == rows[i + 1 :]


def test_the_standard_library_is_code():
    rows = {row["id"]: row["text"] for row in read(StandardLibrary(packages=("json",)))}
    assert "JSONDecoder" in rows["stdlib/json/decoder.py"]
    assert all(ast.parse(text) for text in rows.values())


def test_the_whole_standard_library_has_some_size():
    assert StandardLibrary().total_bytes() > 5_000_000


def test_an_unknown_package_is_named():
    with pytest.raises(DataError, match="'jason' is not in"):
        read(StandardLibrary(packages=("jason",)))


def test_stories_are_the_tales_with_their_questions():
    tale = Tales(seed=4).tale(7)
    [row] = read(TaleStories(tales=Tales(seed=4), first=7, count=1))
    assert (row["id"], row["text"]) == (tale.id, tale.text)
    assert json.loads(row["meta"])["questions"][0]["answer"] == tale.questions[0].answer


def test_conversations_tell_once_and_ask_in_turn():
    tale = Tales().tale(0)
    [row] = read(TaleConversations(count=1, questions=3))
    check_messages(row["messages"])
    asked = tale.questions[:3]
    assert [m["content"] for m in row["messages"][1::2]] == [q.answer for q in asked]
    assert row["messages"][0]["content"] == f"{tale.text}\n\n{asked[0].text}"
    assert row["messages"][2]["content"] == asked[1].text


def test_dirt_comes_with_its_truth():
    labels = {json.loads(row["meta"])["label"] for row in read(TaleStories(count=300, dirt=Dirt()))}
    assert {"clean", "exact_duplicate"} <= labels


def test_another_book_has_another_key():
    keys = {content_key(r) for r in (TaleStories(count=5), TaleStories(count=6), TaleStories(count=5, tales=Tales(seed=1)))}
    assert len(keys) == 3


def test_rows_tell_what_is_true_of_their_story():
    tales = Tales(seed=4, size="short")
    rows = read(TaleRows(tales=tales, count=40))
    for index, row in enumerate(rows):
        tale, columns = tales.tale(index), json.loads(row["meta"])
        assert row["messages"] is None
        assert (columns["story"], columns["true"], columns["false"]) == (tale.text, tale.better, tale.worse)
        truth = tales.answers(index)
        assert truth[columns["question"]] == columns["answer"]
        told = columns["summary"].split("; ")
        assert len(told) == len({fact.subject for fact in tale.facts if fact.relation in ("is", "lies", "held by")})
        for where in told:
            who = where.partition(" is ")[0]
            assert f"They say {where}" in (truth.get(f"Where is {who} now?"), truth.get(f"Who has {who} now?"))
