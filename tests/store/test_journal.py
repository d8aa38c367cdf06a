"""A journal: what was appended is there, whatever was cut off behind it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ArtifactError
from bloomery.store import Journal

LINES = st.lists(st.fixed_dictionaries({"n": st.integers(0, 99), "text": st.text()}), max_size=8)


@settings(max_examples=30)
@given(LINES, LINES, st.data())
def test_whole_lines_stay_and_torn_ones_go(tmp_path_factory, before, after, data):
    path = tmp_path_factory.mktemp("journal") / "lines.jsonl"
    journal = Journal(path)
    journal.append(before)
    journal.append(after)
    journal.close()
    written = path.read_bytes()
    first = len("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in before).encode())
    path.write_bytes(written[: data.draw(st.integers(first, len(written)))])
    kept = list(Journal(path))
    assert kept[: len(before)] == before
    assert kept == [*before, *after][: len(kept)]
    again = Journal(path)
    again.append(after)
    assert list(again) == [*kept, *after]


@settings(max_examples=20)
@given(LINES)
def test_settled_it_is_in_order(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("journal") / "lines.jsonl"
    journal = Journal(path)
    journal.append(lines)
    assert journal.settle("n") == sorted(lines, key=lambda line: line["n"])
    assert list(Journal(path)) == sorted(lines, key=lambda line: line["n"])


def test_a_line_that_is_none_is_named(tmp_path):
    (tmp_path / "j").write_text('{"a": 1}\nrubbish\n')
    with pytest.raises(ArtifactError, match="line 2"):
        list(Journal(tmp_path / "j"))
