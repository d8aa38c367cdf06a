"""Texts that are read each by itself, side by side in a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.test_labelled import BEGIN, END, TOKENIZER, VOCABULARY, encoded, shards_of

from bloomery.core.errors import ConfigError, DataError
from bloomery.data import BothWays, Fit, Packed, TellLabels
from bloomery.data.alike import Likeness, Matches
from bloomery.data.folds import Fold

NEAR, GOES = Likeness(head="near"), Matches(head="goes")


def framed(*texts):
    return [token for text in texts for token in (BEGIN, *TOKENIZER.encode(text), END)]


def test_each_text_is_a_document_and_the_scale_becomes_0_to_1():
    rows = {"text": "a net", "pair": "boats", "score": "4"}, {"text": "a", "pair": "b", "score": ""}
    (row, none) = encoded(NEAR.replace(least=1, most=5), *rows)
    assert row.tokens.tolist() == framed("a net", "boats")
    assert (np.flatnonzero(row.mask).tolist(), row.labels) == ([0], [0.75])
    assert (none.labels, none.mask.sum()) == ([], 0)


def test_the_right_one_follows_and_then_the_wrong_ones():
    encoding = GOES.replace(negatives=("wrong", "more"))
    (row,) = encoded(encoding, {"anchor": "who?", "positive": "Ada", "wrong": "boats", "more": ["a net", "", "quiet"]})
    assert row.tokens.tolist() == framed("who?", "Ada", "boats", "a net", "quiet")
    assert row.labels == [4]
    assert encoding.told(4.0) == "goes with the first of 4"
    (pair,) = encoded(GOES, {"anchor": "who?", "positive": "Ada"})
    assert (pair.tokens.tolist(), pair.labels) == (framed("who?", "Ada"), [1])


@pytest.mark.parametrize("row", [{"anchor": "", "positive": "Ada"}, {"anchor": "who?", "positive": None}])
def test_rows_without_one_of_the_two_have_no_label(row):
    (one,) = encoded(GOES, row)
    assert (one.labels, one.mask.sum()) == ([], 0)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(4, 20))
def test_each_text_is_cut_by_itself_and_counted(lengths, most):
    texts = ["!" * n for n in lengths]
    encoding = GOES.replace(negatives=("wrong",), max_tokens=most)
    (row,) = encoded(encoding, {"anchor": texts[0], "positive": texts[1], "wrong": texts[2:]})
    whole = [len(TOKENIZER.encode(text)) for text in texts]
    starts = np.flatnonzero(row.tokens == BEGIN)
    assert np.diff([*starts, len(row.tokens)]).tolist() == [min(n + 2, most) for n in whole]
    assert row.cut == sum(max(0, n + 2 - most) for n in whole)


@pytest.mark.parametrize(("encoding", "row", "rule"), [
    (NEAR, {"text": "x", "pair": "y", "score": "much"}, "holds 'much', which is no number"),
    (NEAR, {"text": "x", "pair": "y", "score": "nan"}, "holds 'nan', which is no number"),
    (NEAR, {"text": "x", "paid": "y", "score": 1}, "no column 'pair'; did you mean 'paid'"),
    (GOES.replace(negatives=("wrong",)), {"anchor": "x", "positive": "y", "wrong": {}}, "holds dict, not text"),
])  # fmt: skip
def test_rows_that_cannot_be_are_refused_by_name(encoding, row, rule):
    with pytest.raises(DataError, match=rule):
        encoded(encoding, row)


def test_a_scale_of_no_length_is_refused():
    with pytest.raises(ConfigError, match="least=1.0 is not below most=1.0"):
        NEAR.replace(least=1.0)


def test_copies_of_a_pair_are_in_one_fold():
    rows = [{"text": "a net", "pair": "boats", "score": i} for i in range(3)]
    counts = [len(encoded(NEAR.replace(folds=(Fold(number=number, of=2),)), *rows)) for number in range(2)]
    assert sorted(counts) == [0, 3]


def test_packed_texts_see_only_themselves_and_labels_stand_where_groups_begin(tmp_path):
    rows = [{"anchor": f"who has {thing}?", "positive": f"Ada has {thing}"} for thing in ("a net", "boats", "oars")]
    packed = Packed(shards_of(tmp_path, GOES, *rows), Fit(), time=128, seed=0)
    batch = TellLabels(matches=("goes",), then=BothWays()).batch(packed.rows(0, 1), 0, 0, VOCABULARY)
    begins = (batch.tokens[0] == BEGIN).nonzero()[:, 0].tolist()
    assert len(begins) == 6
    assert batch.layout.segments[0, begins].tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.layout.positions[0, begins].tolist() == [0] * 6
    labels = batch.labels["goes"]
    assert labels.targets.dtype.is_floating_point is False
    assert labels.targets[0].nonzero()[:, 0].tolist() == labels.loss_weight[0].nonzero()[:, 0].tolist() == begins[::2]
