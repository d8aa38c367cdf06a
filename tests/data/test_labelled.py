"""Labelled rows as token sequences, and what tasks make of them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.data import BothWays, Cut, Fit, Mixture, NextToken, Packed, TellLabels, TokenShards, Vocabulary, write_index, write_shard
from bloomery.data.encodings import Plain
from bloomery.data.labelled import Choices, Classes, Labelled, Numbers, Tags
from bloomery.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["Ada has a red net. The harbour is quiet; boats lie there."] * 3, vocab_size=280)
BEGIN, END = TOKENIZER.begin, TOKENIZER.end
VOCABULARY = Vocabulary(TOKENIZER)


def encoded(encoding: Labelled, *rows):
    columns = [pa.array([f"r{i}" for i in range(len(rows))]), pa.array([json.dumps(row) for row in rows])]
    return list(encoding.encode(pa.RecordBatch.from_arrays(columns, ["id", "meta"]), TOKENIZER))


def shards_of(folder, encoding: Labelled, *rows) -> TokenShards:
    folder.mkdir(exist_ok=True)
    counts = [write_shard(folder, 0, encoded(encoding, *rows), vocab_size=TOKENIZER.vocab_size, masked=True, kept=("labels", "cut"))]
    write_index(folder, counts, vocab_size=TOKENIZER.vocab_size, pad=TOKENIZER.pad, masked=True, head=encoding.head)
    return TokenShards(folder)


MOOD = Classes(head="mood", classes=("sad", "glad"))


def test_a_text_has_its_class_at_its_first_token():
    (one, other, none) = encoded(MOOD, {"text": "a net", "label": "glad"}, {"text": "boats", "label": 0}, {"text": "x", "label": None})
    assert one.tokens.tolist() == [BEGIN, *TOKENIZER.encode("a net"), END]
    assert (one.mask.tolist(), one.labels) == ([1] + [0] * (len(one.tokens) - 1), [1])
    assert other.labels == [0]
    assert (none.labels, none.mask.sum()) == ([], 0)


def test_a_pair_is_one_document_of_two_parts():
    encoding = MOOD.replace(pair="other")
    (row,) = encoded(encoding, {"text": "a net", "other": "boats lie", "label": "sad"})
    assert row.tokens.tolist() == [BEGIN, *TOKENIZER.encode("a net"), END, *TOKENIZER.encode("boats lie"), END]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(5, 40))
def test_what_is_too_long_is_cut_from_the_longer_one_and_counted(first, second, most):
    pair = MOOD.replace(pair="other", max_tokens=most)
    tokens, cut = pair.framed(["!" * first, "?" * second], TOKENIZER)
    whole, _ = pair.replace(max_tokens=999).framed(["!" * first, "?" * second], TOKENIZER)
    assert len(tokens) == min(most, len(whole))
    assert cut == len(whole) - len(tokens)
    ends = [i for i, token in enumerate(tokens) if token == END]
    assert len(ends) == 2
    a, b = ends[0] - 1, ends[1] - ends[0] - 1
    before = [len(TOKENIZER.encode(text)) for text in ("!" * first, "?" * second)]
    assert all(now == then or now >= max(a, b) - 1 for now, then in zip((a, b), before, strict=True))


def test_words_have_their_tags_at_their_first_or_last_token():
    encoding = Tags(head="tag", classes=("O", "B-PER"))
    (row,) = encoded(encoding, {"words": ["Ada", "has", "nets"], "tags": ["B-PER", "O", "O"]})
    assert row.tokens.tolist() == [BEGIN, *TOKENIZER.encode("Ada has nets"), END]
    starts = np.cumsum([1, len(TOKENIZER.encode("Ada")), len(TOKENIZER.encode(" has"))]).tolist()
    assert (np.flatnonzero(row.mask).tolist(), row.labels) == (starts, [1, 0, 0])
    (last,) = encoded(encoding.replace(at="last"), {"words": "Ada has nets", "tags": "1 0 0"})
    assert np.flatnonzero(last.mask).tolist() == [starts[1] - 1, starts[2] - 1, len(last.tokens) - 2]
    (short,) = encoded(encoding.replace(max_tokens=starts[1] + 1), {"words": "Ada has nets", "tags": "1 0 0"})
    assert (short.labels, short.cut) == ([1], len(TOKENIZER.encode(" has nets")))


@pytest.mark.parametrize("answer", ["B", 1, "1", "in the barn"])
def test_the_right_choice_goes_by_column_number_or_text(answer):
    encoding = Choices(head="which", choices=("A", "B", "C"), count=3)
    (row,) = encoded(encoding, {"prompt": "where?", "A": "home", "B": "in the barn", "C": "away", "answer": answer})
    assert row.labels == [1]
    assert (row.tokens == BEGIN).sum() == 3
    (listed,) = encoded(encoding.replace(choices=("all",)), {"prompt": "where?", "all": ["home", "in the barn", "away"], "answer": 1})
    assert listed.tokens.tolist() == row.tokens.tolist()


@pytest.mark.parametrize(("encoding", "row", "rule"), [
    (MOOD, {"txt": "x", "label": 1}, "document 'r0': no column 'text'; did you mean 'txt'"),
    (MOOD, {"text": "x", "label": "glat"}, "holds 'glat', which is none of the classes; did you mean 'glad'"),
    (MOOD, {"text": "x", "label": 2}, "holds 2, which is none of the classes; they are sad, glad"),
    (Tags(head="t", classes=("O", "X")), {"words": "a b", "tags": "O"}, "2 words have 1 tags"),
    (Choices(head="w"), {"prompt": "p", "choices": ["a"], "answer": 0}, "1 choices, and count=4"),
    (Numbers(head="n"), {"text": "x", "score": "much"}, "holds 'much', which is no number"),
])  # fmt: skip
def test_rows_that_cannot_be_are_refused_by_name(encoding, row, rule):
    with pytest.raises(DataError, match=rule):
        encoded(encoding, row)


def test_labels_stand_where_their_documents_begin_in_packed_rows(tmp_path):
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(["a net", "boats", "the harbour is quiet", "x"])]
    packed = Packed(shards_of(tmp_path, MOOD, *rows), Fit(), time=32, seed=0)
    batch = TellLabels(classes=("mood",)).batch(packed.rows(0, 4), 0, 0, VOCABULARY)
    labels = batch.labels["mood"]
    assert labels.targets.dtype == torch.int64
    first = (batch.layout.positions == 0) & (batch.layout.segments > 0)
    assert torch.equal(labels.loss_weight > 0, first)
    for span in packed.documents(0, 4):
        assert labels.targets[span.row, span.place] == int(span.id[1:]) % 2
    assert torch.equal(batch.tokens, torch.from_numpy(packed.rows(0, 4).tokens))


def test_choices_are_documents_of_their_own_and_pairs_have_two_parts(tmp_path):
    encoding = Choices(head="which", choices=("A", "B"), count=2)
    packed = Packed(shards_of(tmp_path, encoding, {"prompt": "p", "A": "home", "B": "away", "answer": "B"}), Fit(), time=32, seed=0)
    batch = TellLabels(classes=("which",), then=BothWays()).batch(packed.rows(0, 1), 0, 0, VOCABULARY)
    one, other = ([BEGIN, *TOKENIZER.encode("p"), END, *TOKENIZER.encode(c), END] for c in ("home", "away"))
    pad = 32 - len(one) - len(other)
    assert batch.layout.segments.tolist() == [[1] * len(one) + [2] * len(other) + [0] * pad]
    assert batch.layout.positions[0, : len(one) + len(other)].tolist() == [*range(len(one)), *range(len(other))]
    parts = [int(i >= 1 + len(TOKENIZER.encode("p")) + 1) for one in (one, other) for i in range(len(one))]
    assert batch.layout.parts.tolist() == [parts + [0] * pad]
    assert not batch.layout.causal
    assert batch.labels["which"].loss_weight.sum() == 1
    assert batch.labels["which"].targets[0, 0] == 1
    assert batch.weight == 0


def test_no_choice_is_told_from_the_one_before_it(tmp_path):
    encoding = Choices(head="which", choices=("A", "B"), count=2)
    packed = Packed(shards_of(tmp_path, encoding, {"prompt": "p", "A": "home", "B": "away", "answer": "B"}), Fit(), time=32, seed=0)
    batch = TellLabels(classes=("which",), then=NextToken()).batch(packed.rows(0, 1), 0, 0, VOCABULARY)
    told = batch.targets[batch.loss_weight > 0]
    assert BEGIN not in told
    assert (told == END).sum() == 4


def test_each_corpus_of_a_mixture_has_labels_for_its_own_head(tmp_path):
    mood = Packed(shards_of(tmp_path / "mood", MOOD, {"text": "a net", "label": 1}), Fit(), time=16, seed=0, name="mood")
    score = Packed(shards_of(tmp_path / "score", Numbers(head="score"), {"text": "boats", "score": 2.5}), Fit(), time=16, seed=0, name="score")
    mixture = Mixture({"mood": mood, "score": score}, {"mood": 1, "score": 1})
    batch = TellLabels(classes=("mood",), numbers=("score",)).batch(mixture.rows(0, 4), 0, 0, VOCABULARY)
    assert batch.labels["mood"].loss_weight.sum(1).tolist() == [1, 0, 1, 0]
    assert batch.labels["score"].loss_weight.sum(1).tolist() == [0, 1, 0, 1]
    assert batch.labels["score"].targets[1, 0] == 2.5


def test_texts_with_labels_need_not_be_learnt_to_write(tmp_path):
    mood = Packed(shards_of(tmp_path / "mood", MOOD, {"text": "a net", "label": 1}), Fit(), time=16, seed=0, name="mood")
    counts = [write_shard(tmp_path, 0, encoded_plainly("boats"), vocab_size=TOKENIZER.vocab_size)]
    write_index(tmp_path, counts, vocab_size=TOKENIZER.vocab_size, pad=TOKENIZER.pad)
    mixture = Mixture({"mood": mood, "text": Packed(TokenShards(tmp_path), Fit(), time=16, seed=0, name="text")}, {"mood": 1, "text": 1})
    rows, task = mixture.rows(0, 4), TellLabels(classes=("mood",))
    every = task.batch(rows, 0, 0, VOCABULARY).loss_weight
    some = task.replace(learns="unlabelled").batch(rows, 0, 0, VOCABULARY).loss_weight
    assert every.sum(1).bool().tolist() == [True] * 4
    assert some.sum(1).bool().tolist() == [False, True, False, True]
    assert torch.equal(some[1::2], every[1::2])


def encoded_plainly(*texts):
    columns = [pa.array([f"t{i}" for i in range(len(texts))]), pa.array(texts)]
    return list(Plain().encode(pa.RecordBatch.from_arrays(columns, ["id", "text"]), TOKENIZER))


def test_rows_that_would_part_a_document_from_its_label_are_refused(tmp_path):
    shards = shards_of(tmp_path, MOOD, {"text": "the harbour is quiet; boats lie there", "label": 1})
    with pytest.raises(DataError, match="has labels, each of a whole document, which packing=Cut"):
        Packed(shards, Cut(), time=64, seed=0)
    with pytest.raises(DataError, match=r"1 of the 1 documents of main are longer than max_seq_len=8.*or its encoding a smaller max_tokens"):
        Packed(shards, Fit(), time=8, seed=0)


def test_rows_without_a_label_are_left_out_and_counted(tmp_path):
    shards = shards_of(tmp_path, MOOD, {"text": "a net", "label": 1}, {"text": "boats", "label": None})
    (supply,) = Packed(shards, Fit(), time=32, seed=0).supply(2)
    assert (supply.documents, supply.unlearnt) == (1, 1)


def test_a_task_that_names_no_head_is_refused():
    with pytest.raises(ConfigError, match="and numbers and matches name no head"):
        TellLabels()
