"""Folds of labelled rows."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.data.folds import Fold, fold_of
from bloomery.data.labelled import Choices, Classes
from bloomery.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["Ada has a red net. The harbour is quiet; boats lie there."] * 3, vocab_size=280)


def ids_of(encoding, rows):
    columns = [pa.array([f"r{i}" for i in range(len(rows))]), pa.array([json.dumps(row) for row in rows])]
    return [one.id for one in encoding.encode(pa.RecordBatch.from_arrays(columns, ["id", "meta"]), TOKENIZER)]


@given(st.lists(st.text(max_size=12), max_size=30), st.integers(2, 7), st.integers(0, 3))
def test_every_row_is_in_exactly_one_fold_and_the_others_are_the_rest(texts, of, seed):
    rows, moods = [{"text": text, "label": 0} for text in texts], Classes(head="mood", classes=("sad", "glad"))
    folds = [Fold(number=number, of=of, seed=seed) for number in range(of)]
    parts = [ids_of(moods.replace(folds=(fold,)), rows) for fold in folds]
    assert sorted(id for part in parts for id in part) == sorted(ids_of(moods, rows))
    for fold, part in zip(folds, parts, strict=True):
        assert set(ids_of(moods.replace(folds=(fold.replace(side="others"),)), rows)) == set(ids_of(moods, rows)) - set(part)


def test_a_question_keeps_its_fold_whatever_its_choices_case_and_blanks():
    which = Choices(head="which", choices=("A", "B"), count=2, folds=(Fold(number=fold_of("where is it?", 3), of=3),))
    rows = [{"prompt": prompt, "A": f"{i}", "B": "away", "answer": "AB"[i % 2]} for i, prompt in enumerate(("Where is it?", "where  IS it? "))]
    assert ids_of(which, rows) == ["r0", "r1"]


def test_folds_are_about_of_one_size_and_those_of_another_seed_are_others():
    texts = [f"question {i}" for i in range(3000)]
    counts = [sum(Fold(number=number, of=3).keeps(text) for text in texts) for number in range(3)]
    assert all(abs(count - 1000) < 100 for count in counts)
    both = sum(Fold(number=0, of=3).keeps(text) and Fold(number=0, of=3, seed=1).keeps(text) for text in texts)
    assert abs(both - 333) < 80


def test_a_fold_that_is_none_and_a_column_that_is_missing_are_refused():
    with pytest.raises(ConfigError, match=r"Fold.number=3 is none of the 3 folds, .* 2 is the last"):
        Fold(number=3, of=3)
    with pytest.raises(DataError, match="no column 'text'"):
        ids_of(Classes(head="mood", classes=("sad", "glad"), folds=(Fold(number=0, of=2),)), [{"words": "x"}])
