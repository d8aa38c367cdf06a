"""Texts and what is written about them: as rows, and as an encoder and a decoder read them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.test_labelled import BEGIN, END, TOKENIZER, VOCABULARY

from bloomery.core.errors import DataError
from bloomery.data import Fit, FromPassage, FromPrefix, Packed, TokenShards, write_index, write_shard
from bloomery.data.rewrites import Rewrites, parted


def encoded(encoding: Rewrites, *rows):
    columns = [pa.array([f"r{i}" for i in range(len(rows))]), pa.array([json.dumps(row) for row in rows])]
    return list(encoding.encode(pa.RecordBatch.from_arrays(columns, ["id", "meta"]), TOKENIZER))


def shards_of(folder, encoding, *rows) -> TokenShards:
    counts = [write_shard(folder, 0, encoded(encoding, *rows), vocab_size=TOKENIZER.vocab_size, masked=True, kept=encoding.kept)]
    write_index(folder, counts, vocab_size=TOKENIZER.vocab_size, pad=TOKENIZER.pad, masked=True)
    return TokenShards(folder)


ROWS = [{"source": f"{n} has a net", "target": f"a net, {n}"} for n in ("Ada", "the boats", "a quiet harbour")]


def test_only_the_target_and_its_end_are_learnt():
    (row,) = encoded(Rewrites(before="turn: "), ROWS[0])
    read, written = [BEGIN, *TOKENIZER.encode("turn: Ada has a net"), END], [*TOKENIZER.encode("a net, Ada"), END]
    assert row.tokens.tolist() == read + written
    assert row.mask.tolist() == [0] * len(read) + [1] * len(written)
    assert parted(row.tokens, row.mask) == (read, written)
    assert (row.cut, row.cut_learnt) == (0, 0)


@pytest.mark.parametrize("target", ["", None])
def test_rows_without_a_target_have_nothing_to_be_learnt(target):
    (row,) = encoded(Rewrites(), {"source": "a net", "target": target})
    assert row.mask.sum() == 0
    assert parted(row.tokens, row.mask) == (row.tokens.tolist(), [])


@given(st.integers(0, 30), st.integers(1, 30), st.integers(3, 20), st.integers(1, 20))
def test_what_is_cut_is_counted_and_a_cut_target_has_no_end(source, target, max_source, max_target):
    encoding = Rewrites(max_source=max_source, max_target=max_target)
    rows = {"source": "!" * source, "target": "?" * target}
    (row,), (whole,) = encoded(encoding, rows), encoded(Rewrites(), rows)
    read, written = parted(row.tokens, row.mask)
    all_read, all_written = parted(whole.tokens, whole.mask)
    assert len(read) == min(len(all_read), max_source)
    assert (read[0], read[-1]) == (BEGIN, END)
    assert written == all_written[:max_target]
    assert row.cut == len(whole.tokens) - len(row.tokens)
    assert row.cut_learnt == len(all_written) - len(written)
    assert len(row.tokens) <= encoding.longest


def test_cuts_and_rows_without_a_target_are_told_before_training(tmp_path):
    encoding = Rewrites(max_source=6, max_target=3)
    shards = shards_of(tmp_path, encoding, *ROWS, {"source": "a net", "target": ""})
    (supply,) = Packed(shards, Fit(), time=32, seed=0).supply(2)
    found = encoded(encoding, *ROWS)
    assert (supply.documents, supply.unlearnt, supply.cut_documents) == (3, 1, 3)
    assert (supply.cut_tokens, supply.cut_learnt) == (sum(row.cut for row in found), sum(row.cut_learnt for row in found))
    assert f"{supply.cut_learnt} of them to be learnt; 1 documents are left out, of which nothing in a row" in str(supply)


def test_a_row_without_the_column_is_refused_by_name():
    with pytest.raises(DataError, match="document 'r0': no column 'target'; did you mean 'targe'"):
        encoded(Rewrites(), {"source": "a", "targe": "b"})


def test_an_encoder_reads_the_source_and_a_decoder_writes_the_target_document_by_document(tmp_path):
    packed = Packed(shards_of(tmp_path, Rewrites(), *ROWS), Fit(), time=128, seed=0)
    batch = FromPassage().batch(packed.rows(0, 1), 0, 0, VOCABULARY)
    assert batch.passage is not None
    names = [span.id for span in packed.documents(0, 1)]
    assert len(names) == 3
    for number, name in enumerate(names, start=1):
        (row,) = encoded(Rewrites(), ROWS[int(name[1:])])
        read, written = parted(row.tokens, row.mask)
        here, there = batch.passage.layout.segments[0] == number, batch.layout.segments[0] == number
        assert batch.passage.tokens[0, here].tolist() == read
        assert batch.targets[0, there].tolist() == written
        assert batch.tokens[0, there].tolist() == [BEGIN, *written[:-1]]
        assert batch.layout.positions[0, there].tolist() == list(range(len(written)))
        assert batch.loss_weight[0, there].tolist() == [1] * len(written)
    assert not batch.passage.layout.causal
    assert batch.layout.causal
    assert batch.weight == sum(len(parted(row.tokens, row.mask)[1]) for row in encoded(Rewrites(), *ROWS))


def test_a_prefix_is_all_that_comes_before_what_is_learnt(tmp_path):
    packed = Packed(shards_of(tmp_path, Rewrites(), *ROWS), Fit(), time=128, seed=0)
    rows = packed.rows(0, 1)
    batch = FromPrefix().batch(rows, 0, 0, VOCABULARY)
    for number, span in enumerate(packed.documents(0, 1), start=1):
        (row,) = encoded(Rewrites(), ROWS[int(span.id[1:])])
        here = batch.layout.segments[0] == number
        assert batch.layout.prefix[0, here].tolist() == (row.mask == 0).tolist()
    assert not batch.layout.prefix[batch.layout.segments == 0].any()
    assert batch.loss_weight.numpy().tolist() == rows.loss_weight.tolist()


def test_what_is_learnt_later_in_a_document_is_written_too_and_what_is_not_only_read():
    from tests.data.tasks import row_of

    ids = [BEGIN, *TOKENIZER.encode("Ada has a net"), END]
    rows = row_of([ids], 32)
    weight = np.zeros((1, 32), np.float32)
    weight[0, [2, 3, 5]] = 1  # for tokens 3, 4 and 6
    batch = FromPassage(text=8).batch(rows._replace(loss_weight=weight), 0, 0, VOCABULARY)
    assert batch.passage.tokens[0, :3].tolist() == ids[:3]
    assert batch.passage.layout.segments[0].sum() == 3
    assert batch.targets[0, : len(ids) - 3].tolist() == ids[3:]
    assert batch.loss_weight[0].tolist() == [1, 1, 0, 1, 0, 0, 0, 0]


def test_texts_that_are_longer_than_said_are_refused(tmp_path):
    packed = Packed(shards_of(tmp_path, Rewrites(), *ROWS), Fit(), time=128, seed=0)
    with pytest.raises(DataError, match=r"row 0 has more than FromPassage.text=4 tokens to write; raise it"):
        FromPassage(text=4).batch(packed.rows(0, 1), 0, 0, VOCABULARY)
