"""What each filter does, by example; what all of them promise is in tests/contracts."""

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import ExactDuplicates, Filtered, Length, Normalise, names_of, run_through


def documents(*texts):
    return to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)])


def rows(table):
    return [(r["id"], r["filter"], r["action"], r["reason"], r["value"], r["threshold"]) for r in table.to_pylist()]


@pytest.mark.parametrize(("before", "after"), [
    ("a\r\nb\rc\n", "a\nb\nc\n"), ("\ufeffa\x00b\x07\tc\n", "ab\tc\n"), ("cafe\u0301", "café"), ("ﬁ", "ﬁ"), ("e\x00\u0301", "é"), ("", ""),
])  # fmt: skip
def test_normalise(before, after):
    assert Normalise()(documents(before)).batch["text"].to_pylist() == [after]


def test_normalise_by_another_form():
    assert Normalise(form="NFKC")(documents("ﬁ")).batch["text"].to_pylist() == ["fi"]
    assert Normalise(form="none")(documents("cafe\u0301")).batch["text"].to_pylist() == ["cafe\u0301"]


def test_normalise_rewrites_messages_too_and_only_those_that_need_it():
    talk = [{"role": "user", "content": "a\r\nb"}, {"role": "assistant", "content": "c"}]
    batch = to_batch([Document("d", "x", "s"), conversation("e", "s", talk), Document("f", "y\r", "s")])
    verdicts = Normalise()(batch)
    assert verdicts.batch["messages"].to_pylist() == [None, [{"role": "user", "content": "a\nb"}, talk[1]], None]
    assert verdicts.batch["text"].to_pylist() == ["x", "a\nb\n\nc", "y\n"]
    assert [row[0] for row in rows(verdicts.table("f"))] == ["e", "f"]


def test_length_gives_the_measure_and_the_bound():
    verdicts = Length(min_chars=2, max_chars=4)(documents("abc", " é \n", "abcde"))
    assert rows(verdicts.table("f")) == [("d1", "f", "drop", "chars below 2", 1.0, 2.0), ("d2", "f", "drop", "chars above 4", 5.0, 4.0)]
    assert verdicts.kept()["id"].to_pylist() == ["d0"]


def test_lengths_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"Length\.max_chars=3 is below min_chars=5"):
        Length(min_chars=5, max_chars=3)


def test_duplicates_name_the_first():
    verdicts = ExactDuplicates()(documents("a b", "c", "a  b\n", "ab", "c"))
    assert [(row[0], row[3]) for row in rows(verdicts.table("f"))] == [("d2", "duplicate of d0"), ("d4", "duplicate of d1")]


def test_filters_hand_on_what_is_left_and_keep_the_book():
    filters = (Normalise(), Length(), ExactDuplicates())
    filtered = run_through(zip(names_of(filters), filters, strict=True), Filtered(documents("a\r\n", "", "a\n")))
    assert filtered.batch["text"].to_pylist() == ["a\n"]
    verdicts = [row[:3] for table in filtered.verdicts for row in rows(table)]
    assert verdicts == [("d0", "Normalise", "rewrite"), ("d1", "Length", "drop"), ("d2", "ExactDuplicates", "drop")]
    assert [(f.documents_in, f.documents_out, f.bytes_in, f.bytes_out, f.rewritten) for f in filtered.flows] == [
        (3, 3, 5, 4, 1), (3, 2, 4, 4, 0), (2, 1, 4, 2, 0),
    ]  # fmt: skip
    assert [batch["id"].to_pylist() for batch in filtered.dropped] == [[], ["d1"], ["d2"]]
    assert filtered.measures[0].to_pydict() == {"id": ["d0", "d1", "d2"], "Length.chars": [1.0, 0.0, 1.0]}
    assert filtered.bounds == {"Length.chars": (1, None)}


def test_two_filters_of_a_kind_have_two_names():
    assert names_of((Length(), Normalise(), Length(max_chars=9))) == ["Length[0]", "Normalise", "Length[2]"]
