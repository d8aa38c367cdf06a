"""Tasks on rows: what each hides, cuts out or swaps; that a row is a function of its number and the seed alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.tasks import TEXTS, Shelf, row_of, tokenizer, vocabulary

from bloomery.core.errors import ConfigError, DataError
from bloomery.data.tasks import (
    FromPassage,
    FromPrefix,
    MaskedTokens,
    NextToken,
    Posed,
    PrefixLM,
    RowTask,
    SentenceOrder,
    Span,
    SpanCorruption,
    Word,
    once,
    room,
)
from bloomery.data.tasks.corruption import apportion, spans_of
from bloomery.data.tasks.task import learnable, stretches

TASKS = [
    NextToken(), PrefixLM(), MaskedTokens(), MaskedTokens(by=Word()), MaskedTokens(by=Span()), SpanCorruption(), SentenceOrder(),
    SpanCorruption(rate=0.5, mean_length=4), FromPassage(), FromPrefix(),
]  # fmt: skip


def posed(task: RowTask, time: int = 64, seed: int = 0, longest: int = 40) -> Posed:
    return Posed(Shelf(task.raw_time(time), longest), task, time=time, seed=seed, vocabulary=vocabulary())


def flat(batch) -> dict[str, torch.Tensor]:
    found = {"tokens": batch.tokens, "targets": batch.targets, "weight": batch.loss_weight, "segments": batch.layout.segments}
    found |= {"prefix": batch.layout.prefix, "parts": batch.layout.parts, "draws": batch.draws}
    found |= {f"labels/{name}": one.targets for name, one in batch.labels.items()}
    if batch.passage is not None:
        found |= {"passage": batch.passage.tokens, "passage_segments": batch.passage.layout.segments}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("task", TASKS, ids=str)
class TestEveryTask:
    def test_a_row_is_the_same_in_any_batch(self, task):
        whole = flat(posed(task).batch(10, 6))
        for first, rows in ((10, 2), (12, 3), (15, 1)):
            part = flat(posed(task).batch(first, rows))
            for name, value in part.items():
                assert torch.equal(value, whole[name][first - 10 : first - 10 + rows]), name

    def test_the_seed_counts_and_rows_differ(self, task):
        if isinstance(task, NextToken | FromPassage | FromPrefix):
            pytest.skip("draws nothing")
        a, b = (flat(posed(task, seed=seed).batch(0, 4)) for seed in (0, 1))
        assert any(not torch.equal(a[name], b[name]) for name in a)

    def test_rows_have_the_length_that_was_asked_for_and_ids_the_model_has(self, task):
        source = posed(task)
        batch = source.batch(0, 3)
        read = batch.tokens if batch.passage is None else batch.passage.tokens
        assert read.shape == (3, 64)
        assert batch.tokens.shape[1] <= task.longest(64)
        assert all(int(value.max()) < source.vocab_size for value in (read, batch.tokens, batch.targets))
        assert batch.tokens.is_contiguous()
        assert batch.loss_weight.dtype == torch.float32

    def test_padding_is_never_learnt(self, task):
        batch = posed(task).batch(0, 8)
        assert not batch.loss_weight[batch.layout.segments == 0].any()
        assert batch.weight > 0

    def test_splits_keep_everything(self, task):
        batch = posed(task).batch(0, 4)
        parts = [flat(part) for part in batch.split(1)]
        for name, value in flat(batch).items():
            assert torch.equal(torch.cat([part[name] for part in parts]), value)


def test_next_tokens_are_what_a_source_gives_by_itself():
    source = Shelf()
    assert all(torch.equal(a, b) for a, b in zip(flat(source.batch(3, 4)).values(), flat(posed(NextToken()).batch(3, 4)).values(), strict=True))


class TestMasking:
    def test_the_rate_and_the_shares_are_met(self):
        source, batch = Shelf(time=256), posed(MaskedTokens(), time=256).batch(0, 200)
        rows = source.rows(0, 200)
        may = vocabulary().text[rows.tokens]
        hidden = batch.loss_weight.numpy() > 0
        assert hidden[may].mean() == pytest.approx(0.15, abs=0.002)  # each row is met to a token
        now, before = batch.tokens.numpy()[hidden], rows.tokens[hidden]
        n = len(now)
        masked, kept = (now == vocabulary().id("mask")).mean(), (now == before).mean()
        sigma = (0.1 * 0.9 / n) ** 0.5
        assert masked == pytest.approx(0.8, abs=5 * sigma)
        assert kept == pytest.approx(0.1 + 0.1 / len(vocabulary().text_ids), abs=5 * sigma)
        assert np.array_equal(batch.tokens.numpy()[~hidden], rows.tokens[~hidden])
        assert np.array_equal(batch.targets.numpy(), rows.tokens)

    def test_control_tokens_and_padding_are_never_hidden_nor_drawn(self):
        rows, batch = Shelf().rows(0, 100), posed(MaskedTokens(rate=1.0, keep=0.0, random=1.0)).batch(0, 100)
        may = vocabulary().text[rows.tokens] & (rows.segments > 0)
        assert np.array_equal(batch.loss_weight.numpy() > 0, may)
        assert vocabulary().text[batch.tokens.numpy()[may]].all()

    def test_what_is_not_to_be_learnt_is_not_hidden(self):
        ids = tokenizer().encode_documents([TEXTS[0]])[0].tolist()
        rows = row_of([ids], len(ids))
        rows.loss_weight[0, :9] = 0  # of the targets 1 to 9
        batch = MaskedTokens(rate=1.0).batch(rows, 0, 0, vocabulary())
        assert batch.loss_weight[0].tolist() == [0.0] * 10 + [1.0] * (len(ids) - 11) + [0.0]
        assert learnable(rows)[0].tolist() == [True] + [False] * 9 + [True] * (len(ids) - 10)

    def test_words_are_hidden_whole(self):
        task, source = MaskedTokens(by=Word(), keep=0.0, random=0.0), posed(NextToken(), time=128)
        rows = source.rows(0, 50)
        hidden = task.batch(rows, 0, 0, vocabulary()).loss_weight.numpy() > 0
        inside = ~vocabulary().word_starts(rows.tokens, rows.segments) & (rows.segments > 0)
        assert inside.any()
        assert np.array_equal(hidden[:, 1:][inside[:, 1:]], hidden[:, :-1][inside[:, 1:]])
        assert hidden.sum() / vocabulary().text[rows.tokens].sum() == pytest.approx(0.15, abs=0.01)

    def test_spans_are_hidden_in_one_way(self):
        task = MaskedTokens(by=Span(), keep=0.5, random=0.0, rate=0.5)
        rows = Shelf(time=128, longest=128).rows(0, 50)
        batch = task.batch(rows, 0, 0, vocabulary())
        hidden, masked = batch.loss_weight.numpy() > 0, batch.tokens.numpy() == vocabulary().id("mask")
        words = vocabulary().word_starts(rows.tokens, rows.segments)
        same = hidden[:, 1:] & hidden[:, :-1] & ~words[:, 1:]
        assert np.array_equal(masked[:, 1:][same], masked[:, :-1][same])
        assert 0.4 < masked[hidden].mean() < 0.6

    def test_no_mask_is_needed_where_nothing_is_masked(self):
        assert MaskedTokens(keep=0.5, random=0.5).roles(64) == ()
        assert MaskedTokens().roles(64) == ("mask",)
        with pytest.raises(ConfigError, match="more than 1 together"):
            MaskedTokens(keep=0.6, random=0.5)


class TestPrefix:
    def test_the_loss_is_on_the_rest_and_the_prefix_is_neither_empty_nor_all(self):
        rows, batch = Shelf().rows(0, 50), posed(PrefixLM()).batch(0, 50)
        shares = []
        for i in range(50):
            for start, stop in stretches(rows.segments[i]):
                prefix, weight = batch.layout.prefix[i, start:stop], batch.loss_weight[i, start:stop]
                n = int(prefix.sum())
                assert 1 <= n < stop - start
                assert prefix[:n].all()
                assert weight.tolist() == [0.0] * (n - 1) + [1.0] * (stop - start - n) + [0.0]
                shares.append(n / (stop - start))
        assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
        assert batch.layout.causal


class TestOrder:
    def halves(self, swapped):
        ids = tokenizer().encode_documents([TEXTS[0]])[0].tolist()
        rows = row_of([ids], len(ids))
        for seed in range(20):
            batch = SentenceOrder(then=MaskedTokens(keep=1.0, random=0.0)).batch(rows, 0, seed, vocabulary())
            if bool(batch.labels["order"].targets[0, 0]) == swapped:
                return ids, batch
        raise AssertionError("half of them should be")

    def test_halves_are_sentences_and_stand_in_either_order(self):
        text = " He was glad! The end came soon, they said."
        for swapped in (False, True):
            ids, batch = self.halves(swapped)
            parts = batch.layout.parts[0]
            first, second = (tokenizer().decode(batch.tokens[0][parts == part].tolist()) for part in (0, 1))
            assert (first, second) == ((text, TEXTS[0].removesuffix(text)) if swapped else (TEXTS[0].removesuffix(text), text))
            assert sorted(batch.tokens[0].tolist()) == sorted(ids)
            assert batch.tokens[0, 0] == tokenizer().begin
            assert batch.tokens[0, -1] == tokenizer().end
            assert torch.equal(batch.targets, batch.tokens)

    def test_half_are_swapped_and_every_document_is_labelled_once(self):
        rows, batch = Shelf().rows(0, 200), posed(SentenceOrder()).batch(0, 200)
        labels = batch.labels["order"]
        documents = sum(len(list(stretches(row))) for row in rows.segments)
        assert labels.weight == pytest.approx(documents, rel=0.02)  # those of one word have none
        share = float((labels.targets * labels.loss_weight).sum()) / labels.weight
        assert share == pytest.approx(0.5, abs=4 * 0.5 / documents**0.5)
        assert not batch.layout.causal

    def test_what_goes_on_must_read_both_ways(self):
        with pytest.raises(ConfigError, match="take MaskedTokens"):
            SentenceOrder(then=NextToken())


class TestCorruption:
    @given(st.integers(0, 10_000), st.integers(24, 80), st.integers(6, 80), st.floats(0.1, 0.5), st.floats(1, 6))
    @settings(max_examples=60, deadline=None)
    def test_passage_and_text_together_are_the_document(self, row, time, longest, rate, mean):
        task = SpanCorruption(rate=rate, mean_length=mean)
        source = posed(task, time=time, longest=longest)
        try:
            batch, rows = source.batch(row, 1), source.rows(row, 1)
        except DataError as error:
            assert "too short" in str(error)  # noqa: PT017
            return
        first = vocabulary().id("sentinel_0")
        for start, stop in stretches(rows.segments[0]):
            number = rows.segments[0, start]
            text = batch.targets[0][batch.layout.segments[0] == number].tolist()
            spans, current = {}, None
            for token in text[:-1]:
                if token >= first:
                    current = token - first
                    assert current == len(spans)
                    spans[current] = []
                else:
                    spans[current].append(token)
            passage = batch.passage.tokens[0][batch.passage.layout.segments[0] == number].tolist()
            whole = [t for token in passage for t in (spans[token - first] if token >= first else [token])]
            assert whole == rows.tokens[0, start:stop].tolist()
            assert all(spans.values())
            assert not text or text[-1] == tokenizer().end
            read = batch.tokens[0][batch.layout.segments[0] == number].tolist()
            assert read == [tokenizer().begin, *text[:-1]][: len(text)]

    def test_a_full_row_of_one_document_fills_passage_and_text(self):
        task = SpanCorruption()
        raw = task.raw_time(512)
        cut, spans = task.cut(raw)
        assert (raw, cut, spans) == (569, 85, 28)  # as in T5's own arithmetic: 512 = 569 − 85 + 28
        ids = [tokenizer().begin, *np.random.default_rng(0).choice(vocabulary().text_ids, raw - 2).tolist(), tokenizer().end]
        batch = task.batch(row_of([ids], raw), 0, 0, vocabulary())
        assert (batch.passage.layout.segments == 1).all()
        assert batch.passage.tokens.shape == (1, 512)
        assert (batch.layout.segments == 1).all()
        assert batch.tokens.shape == (1, 114)
        assert batch.layout.causal
        assert not batch.passage.layout.causal

    def test_rows_of_many_documents_lose_little(self):
        task = SpanCorruption()
        batch, raw = posed(task, time=256, longest=60).batch(0, 50), Shelf(task.raw_time(256), 60)
        assert (batch.passage.layout.segments > 0).float().mean() > 0.97
        cut = int((batch.targets < vocabulary().id("sentinel_0")).logical_and(batch.loss_weight > 0).sum())
        assert cut / (raw.rows(0, 50).segments > 0).sum() == pytest.approx(0.15, abs=0.03)

    def test_documents_that_nothing_can_be_cut_out_of_are_refused(self):
        rows = row_of([[tokenizer().begin, 300, tokenizer().end]] * 20, 60)
        with pytest.raises(DataError, match=r"row 7 holds documents too short to cut 15% out of them"):
            SpanCorruption().batch(rows, 7, 0, vocabulary())

    @given(st.integers(1, 60), st.integers(0, 2**31), st.data())
    @settings(max_examples=100, deadline=None)
    def test_spans_are_apart_and_add_up(self, length, seed, data):
        spans = data.draw(st.integers(1, (length + 1) // 2))
        cut = data.draw(st.integers(spans, length - spans + 1))
        found = spans_of(length, cut, spans, np.random.default_rng(seed))
        assert (found[:, 1] - found[:, 0]).min() >= 1
        assert (found[1:, 0] > found[:-1, 1]).all()
        assert found.min() >= 0
        assert found.max() <= length
        assert (found[:, 1] - found[:, 0]).sum() == cut

    @given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1, max_size=8), st.integers(0, 60), st.integers(0, 99))
    @settings(max_examples=100, deadline=None)
    def test_parts_add_up_as_far_as_there_is_room(self, pairs, total, seed):
        sizes, most = (np.array(column) for column in zip(*pairs, strict=True))
        parts = apportion(total, sizes, most, np.random.default_rng(seed))
        assert (parts <= most).all()
        assert parts.sum() == min(total, most.sum())


def test_span_lengths_are_those_of_the_clipped_geometric_distribution():
    unit = Span()
    assert (unit.chances * np.arange(1, 11)).sum() == pytest.approx(3.797, abs=1e-3)
    rng, tokens = np.random.default_rng(0), np.full(60_000, 300)
    starts = np.flatnonzero(unit.starts(tokens, np.ones(60_000, bool), vocabulary(), rng))
    lengths = np.diff(starts)
    found = np.bincount(lengths, minlength=11)[1:] / len(lengths)
    assert len(found) == 10
    assert np.abs(found - unit.chances).max() < 5 * (0.25 / len(lengths)) ** 0.5


def test_ids_for_masks_and_sentinels_stand_above_the_tokenizer_or_are_its_own():
    size = tokenizer().vocab_size
    assert vocabulary().id("mask") == size
    assert vocabulary().id("sentinel_3") == size + 4  # the mask keeps its place
    assert room(("sentinel_0", "sentinel_1"), ()) == 3
    assert room(("mask",), ("mask",)) == 0
    from bloomery.data.tasks import Vocabulary
    from bloomery.text.tokenizer import Tokenizer

    own = Vocabulary(Tokenizer.train(TEXTS, vocab_size=400, roles=("mask",)))
    assert own.id("mask") == own.tokenizer.roles["mask"] < own.tokenizer.vocab_size


def test_resumed_and_shared_rows_are_those_of_the_whole():
    from bloomery.data.source import Cursor

    source = posed(MaskedTokens())
    whole = source.batch(6, 6)
    parts = [next(source.resume(Cursor(rows=6, tokens=6 * 64), 6, rank, 2))[0] for rank in (0, 1)]
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)


def test_each_held_out_document_is_read_once(tmp_path):
    from bloomery.data import Cut, Encoded, Packed, TokenShards, write_index, write_shard

    documents = [Encoded(str(i), np.array(ids), 1) for i, ids in enumerate(tokenizer().encode_documents(TEXTS))]
    size = tokenizer().vocab_size
    write_index(tmp_path, [write_shard(tmp_path, 0, documents, vocab_size=size)], vocab_size=size, pad=tokenizer().pad)
    task = MaskedTokens()
    packed = Packed(TokenShards(tmp_path), Cut(), time=16, seed=0)
    batches = list(once(packed, task, 2, 0, vocabulary()))
    assert sum(int((b.layout.segments > 0).sum()) for b in batches) == sum(len(d.tokens) for d in documents)
