"""No row goes by unnoticed of which nothing is learnt: such documents are left out and counted."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import DataError
from bloomery.data.packing import Cut, Fit
from bloomery.data.shards import Encoded, TokenShards, write_index, write_shard
from bloomery.data.source import Packed

MASKS = ([0, 0, 1, 1], [0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1], [0, 1], [0, 0, 0, 0, 1, 1, 1])


@pytest.fixture
def shards(tmp_path) -> TokenShards:
    return written(tmp_path, MASKS)


def written(folder, masks) -> TokenShards:
    documents = [Encoded(f"doc-{i}", np.full(len(mask), 10 + i), len(mask), np.array(mask)) for i, mask in enumerate(masks)]
    counts = [write_shard(folder, 0, documents, vocab_size=99, masked=True)]
    write_index(folder, counts, vocab_size=99, pad=0, masked=True)
    return TokenShards(folder)


def test_under_fit_every_document_in_a_row_teaches_something(shards):
    packed = Packed(shards, Fit(), time=5, seed=0)
    rows = packed.rows(0, packed.arrangement.rows_per_epoch())
    assert {*rows.tokens[rows.segments > 0].tolist()} == {10, 13, 14}  # 11 has no answer, and that of 12 begins behind the row's end
    for row in range(len(rows.tokens)):
        for segment in {*rows.segments[row].tolist()} - {0}:
            assert rows.loss_weight[row][rows.segments[row] == segment].any()
    (supply,) = packed.supply(10)
    assert (supply.documents, supply.unlearnt, supply.cut_documents, supply.cut_learnt) == (3, 2, 1, 2)
    assert "2 documents are left out, of which nothing in a row is to be learnt" in str(supply)
    assert packed.unlearnt_rows(10) == 0


def test_under_cut_only_those_without_any_answer_are_left_out_and_rows_without_are_counted(shards):
    packed = Packed(shards, Cut(), time=2, seed=0)
    assert packed.supply(4)[0].unlearnt == 1
    rows = packed.rows(0, 40)
    assert packed.unlearnt_rows(40, at_once=7) == sum(not weights.any() for weights in rows.loss_weight) > 0
    assert 11 not in rows.tokens


def test_documents_keep_their_names(shards):
    packed = Packed(shards, Fit(), time=5, seed=0)
    rows = packed.rows(0, 6)
    for span in packed.documents(0, 6):
        assert rows.tokens[span.row, span.place] == 10 + int(span.id.removeprefix("doc-"))


def test_a_corpus_of_which_nothing_can_be_learnt_is_refused(tmp_path):
    with pytest.raises(DataError, match="nothing is to be learnt in the first 2 tokens of any of the 2 documents of main"):
        Packed(written(tmp_path, ([0, 0, 1], [0, 0])), Fit(), time=2, seed=0)
