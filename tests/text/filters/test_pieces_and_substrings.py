"""Paragraphs, lines and long passages that came before: fast equals naive, on one part or many, with any memory."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import DuplicateLines, DuplicateParagraphs, DuplicateSubstrings, judge_all, pieces, substrings
from bloomery.text.filters.cutting import character_spans, without
from bloomery.text.filters.filter import shifted


def documents(*texts, name="d"):
    return to_batch([Document(f"{name}{i}", text, "s") for i, text in enumerate(texts)])


def left(filter, *texts, known=()):
    (found,) = judge_all(filter, [documents(*texts)], [documents(*known, name="k")] if known else [])
    gone = dict(zip(found.batch["id"].to_pylist(), found.dropped.to_pylist(), strict=True))
    return [None if gone[f"d{i}"] else text for i, text in enumerate(found.batch["text"].to_pylist())]


def table(filter, *texts):
    return [(r["id"], r["action"], r["reason"], r["value"]) for r in judge_all(filter, [documents(*texts)])[0].table("f").to_pylist()]


def test_lines_that_came_before_are_cut():
    lines = DuplicateLines(min_words=3)
    assert left(lines, "Home, about us\nfirst é text\n", "HOME about us!\nanother text here\nfirst é text", "home about us") == [
        "Home, about us\nfirst é text\n", "another text here", None,
    ]  # fmt: skip
    assert table(lines, "a b c\nx", "x\na b c\na b c", "a b c") == [
        ("d1", "rewrite", "line of d0", 2.0), ("d2", "drop", "nothing but lines that came before", 1.0),
    ]  # fmt: skip


def test_paragraphs_have_several_lines_and_end_at_blank_ones():
    texts = "one two\nthree four\n \nrest of it all", "\n\none two three\nfour\n\n\nand so it ends", "one two\n\nthree four"
    assert left(DuplicateParagraphs(), *texts) == [texts[0], "\n\nand so it ends", texts[2]]


def test_short_pieces_and_rare_ones_stay():
    assert left(DuplicateLines(min_words=3), "a b\nc", "a b\nd") == ["a b\nc", "a b\nd"]
    assert left(DuplicateLines(min_words=1, min_count=3), "x\na", "x\nb", "a\nc", "x\nd") == ["x\na", "b", "a\nc", "d"]


@pytest.mark.parametrize("filter", [DuplicateLines(min_words=1), DuplicateParagraphs(min_words=1), DuplicateSubstrings(min_words=2)])
def test_earlier_corpora_come_first_and_conversations_are_left_alone(filter):
    assert left(filter, "a b", "c d", known=["c d\n\n", "x", "c d"]) == ["a b", None]
    talk = conversation("d0", "s", [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "a b"}])
    assert judge_all(filter, [to_batch([talk, talk._replace(id="d1")])])[0].table("f").num_rows == 0


def test_passages_are_cut_wherever_they_stand():
    shared = " ".join(f"w{i}" for i in range(12))
    texts = f"Before. {shared}, after.", f"Other words; {shared.upper()}! And more.", shared
    assert left(DuplicateSubstrings(min_words=10), *texts) == [texts[0], "Other words; And more.", None]
    assert table(DuplicateSubstrings(min_words=10), *texts) == [
        ("d1", "rewrite", "passage of d0", 12.0), ("d2", "drop", "nothing but passages that came before", 12.0),
    ]  # fmt: skip


def test_spans_say_where_something_was_cut():
    (found,) = judge_all(DuplicateLines(min_words=1), [documents("é\nß\nc", "ü\né\nx\nß\nc")])
    assert found.batch["text"].to_pylist()[1] == "ü\nx"
    assert [(s["start"], s["end"]) for s in found.spans.to_pylist()[1]] == [(2, 2), (3, 3)]


words = st.lists(st.sampled_from(["a", "b", "C,", "é.", "\n", "\n\n", " "]), max_size=14).map(" ".join)
corpora = st.lists(words, max_size=6)


def naive_pieces(texts, pattern, min_words):
    seen, out = set(), []
    for text in texts:
        kept, cut = [], False
        for piece in re.split(pattern, text):
            key = tuple(re.findall(r"\w+", piece.lower()))
            if len(key) >= min_words and key in seen:
                cut = True
            else:
                kept += key
            seen |= {key}
        out.append(None if cut and not kept else kept)
    return out


@settings(deadline=None)
@given(corpora, st.integers(1, 3))
def test_lines_equal_the_naive_way(texts, min_words):
    found = left(DuplicateLines(min_words=min_words), *texts)
    assert [t if t is None else re.findall(r"\w+", t.lower()) for t in found] == naive_pieces(texts, "\n", min_words)


@settings(deadline=None)
@given(corpora, st.integers(1, 3))
def test_paragraphs_equal_the_naive_way(texts, min_words):
    found = left(DuplicateParagraphs(min_words=min_words), *texts)
    assert [t if t is None else re.findall(r"\w+", t.lower()) for t in found] == naive_pieces(texts, r"\n\s*\n", min_words)


def naive_passages(texts, n):
    seen, out, place = {}, [], 0
    for text in texts:
        found = re.findall(r"\w+", text.lower())
        cut = [False] * len(found)
        for i in range(len(found) - n + 1):
            run = tuple(found[i : i + n])
            if seen.setdefault(run, place + i) + n <= place + i:
                cut[i : i + n] = [True] * n
        place += len(found)
        kept = [word for word, gone in zip(found, cut, strict=True) if not gone]
        out.append(None if any(cut) and not kept else kept)
    return out


@settings(deadline=None, max_examples=200)
@given(corpora, st.integers(2, 4))
def test_passages_equal_the_naive_way(texts, n):
    found = left(DuplicateSubstrings(min_words=n), *texts)
    assert [t if t is None else re.findall(r"\w+", t.lower()) for t in found] == naive_passages(texts, n)


@pytest.mark.parametrize(("filter", "room"), [(DuplicateLines(min_words=1), pieces), (DuplicateSubstrings(min_words=3), substrings)])
def test_decisions_are_the_same_with_next_to_no_memory(tmp_path, filter, room):
    rng = np.random.default_rng(0)
    batches = [documents(*(" ".join(rng.choice(["a", "b", "c\n", "d"], 12)) for _ in range(15))) for _ in range(3)]
    tables = [shifted(filter.note(batch), 15 * i) for i, batch in enumerate(batches)]
    notes = SimpleNamespace(first=0, rows=45, scratch=tmp_path, tables=lambda columns: (t.select(columns) for t in tables))
    plain = room.resolve(filter, notes)
    assert plain.num_rows > 20
    assert room.resolve(filter, notes, 50).equals(plain)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(st.lists(st.text("aéß日\n", max_size=8), min_size=1, max_size=4), st.data())
def test_cutting_bytes_is_cutting_characters(texts, data):
    starts, ends, expected, spans = [], [], [], []
    base = 0
    for text in texts:
        a, b = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
        if a < b:
            starts.append(base + len(text[:a].encode()))
            ends.append(base + len(text[:b].encode()))
        expected.append(text[:a] + text[b:])
        spans.append([(a, b)] if a < b else [])
        base += len(text.encode())
    column = documents(*texts)["text"]
    starts, ends = np.array(starts, int), np.array(ends, int)
    new, places = without(column, starts, ends)
    new.validate(full=True)
    assert new.to_pylist() == expected
    assert [[(s["start"], s["end"]) for s in row] for row in places.to_pylist()] == [[(a, a) for a, _ in row] for row in spans]
    assert [[(s["start"], s["end"]) for s in row] for row in character_spans(column, starts, ends).to_pylist()] == spans
