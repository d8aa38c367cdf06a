"""Packing: each token in exactly one place per epoch, each document apart from the others, each target from its own document."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.corpora import PAD, make_shards

from bloomery.core.errors import DataError
from bloomery.data.packing import Cut, Fit, best_fit
from bloomery.data.source import Packed

PACKINGS = st.one_of(st.just(Cut()), st.integers(1, 12).map(lambda window: Fit(window=window)))
SHUFFLED = st.integers(2, 7).map(lambda rows: Cut(shuffled=rows))
CORPORA = {
    "lengths": st.lists(st.integers(1, 14), min_size=1, max_size=16), "time": st.integers(1, 10),
    "packing": PACKINGS, "seed": st.integers(0, 9),
}


def naive_rows(shards, packing, time: int, seed: int, epochs: int) -> list[tuple[list, list, list, list]]:
    """Tokens, targets, weights and segments of the rows of some epochs, one token at a time. Fit's composition is taken from its plan."""
    kept = [d for d in range(len(shards)) if shards.mask(d)[: time if isinstance(packing, Fit) else None].any()]
    if not kept:
        return []
    arrangement, rows, row = packing.arrange(shards.lengths[kept], time, seed), [], []

    def places(document: int, length: int):
        tokens, mask = shards.document(document)[:length].tolist(), shards.mask(document)[:length].tolist()
        for i, token in enumerate(tokens):
            ends = i + 1 == length
            yield token, PAD if ends else tokens[i + 1], 0 if ends else mask[i + 1], (document, rows_done())

    def rows_done() -> int:
        return len(rows)

    def finish(row: list) -> None:
        names = list(dict.fromkeys(visit for *_, visit in row))
        numbered = [(*place, 1 + names.index(visit)) for *place, visit in row] + [(PAD, PAD, 0, 0)] * (time - len(row))
        rows.append(tuple(map(list, zip(*numbered, strict=True))))

    if isinstance(packing, Cut):
        for epoch in range(epochs):
            for document in (kept[i] for i in arrangement.order(epoch).tolist()):
                for place in places(document, int(shards.lengths[document])):
                    row.append((*place[:3], (epoch, document)))
                    if len(row) == time:
                        finish(row)
                        row = []
        return rows
    r = 0
    while arrangement.epochs(r) < epochs:
        p = arrangement.pieces(r, 1)
        row = [place for d in (kept[i] for i in p.documents.tolist()) for place in places(d, min(int(shards.lengths[d]), time))]
        finish(row)
        r += 1
    return rows


@settings(max_examples=60, deadline=None)
@given(**CORPORA, masked=st.booleans())
def test_batches_equal_the_naive_reference(tmp_path_factory, lengths, time, packing, seed, masked):
    shards = make_shards(tmp_path_factory.mktemp("shards"), lengths, masked=masked)
    expected = naive_rows(shards, packing, time, seed, epochs=2)
    if not expected:
        return  # Cut: two epochs do not fill a row; or nothing is to be learnt
    batch = Packed(shards, packing, time=time, seed=seed).batch(0, len(expected))
    found = (batch.tokens, batch.targets, batch.loss_weight, batch.layout.segments)
    for name, tensor, column in zip(("tokens", "targets", "weights", "segments"), found, zip(*expected, strict=True), strict=True):
        assert tensor.tolist() == [list(row) for row in column], name


@settings(max_examples=60, deadline=None)
@given(**CORPORA, epoch=st.integers(0, 3))
def test_every_token_appears_exactly_once_per_epoch(tmp_path_factory, lengths, time, packing, seed, epoch):
    shards = make_shards(tmp_path_factory.mktemp("shards"), lengths)
    arrangement = packing.arrange(shards.lengths, time, seed)
    last = next(rows for rows in range(1, 4000) if arrangement.epochs(rows) >= epoch + 1)
    pieces = arrangement.pieces(0, last)
    pieces = pieces.where(pieces.epochs == epoch)
    tokens, _ = shards.gather(pieces.documents, pieces.starts, pieces.lengths)
    counts = Counter(tokens.tolist())
    kept = sum(min(n, time) for n in lengths) if isinstance(packing, Fit) else sum(lengths)
    assert set(counts.values()) == {1}
    assert len(counts) == kept
    assert arrangement.cut().tokens == sum(lengths) - kept
    assert arrangement.cut().documents == (sum(n > time for n in lengths) if isinstance(packing, Fit) else 0)


@settings(max_examples=60, deadline=None)
@given(**CORPORA | {"packing": st.one_of(PACKINGS, SHUFFLED)}, first=st.integers(0, 60), rows=st.integers(1, 9))
def test_no_segment_holds_two_documents_and_no_document_two_segments_of_a_row(tmp_path_factory, lengths, time, packing, seed, first, rows):
    shards = make_shards(tmp_path_factory.mktemp("shards"), lengths)
    batch = Packed(shards, packing, time=time, seed=seed).batch(first, rows)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for tokens, segments, positions in zip(batch.tokens.tolist(), batch.layout.segments.tolist(), batch.layout.positions.tolist(), strict=True):
        for segment in set(segments) - {0}:
            places = [i for i, s in enumerate(segments) if s == segment]
            inside = [tokens[i] for i in places]
            assert len({owner[t - 10] for t in inside}) == 1
            assert inside == list(range(inside[0], inside[0] + len(inside)))  # a run of consecutive tokens of the document
            assert [positions[i] for i in places] == list(range(len(places)))
        assert all((s == 0) == (t == PAD) for s, t in zip(segments, tokens, strict=True))


@settings(max_examples=40, deadline=None)
@given(**CORPORA | {"packing": st.one_of(PACKINGS, SHUFFLED)}, first=st.integers(0, 50), rows=st.integers(1, 6))
def test_documents_names_every_token_of_a_batch(tmp_path_factory, lengths, time, packing, seed, first, rows):
    shards = make_shards(tmp_path_factory.mktemp("shards"), lengths)
    source = Packed(shards, packing, time=time, seed=seed, name="web")
    batch, rebuilt = source.batch(first, rows), np.full((rows, time), PAD)
    for span in source.documents(first, rows):
        assert span.source == "web"
        tokens = shards.document(int(span.id.removeprefix("doc-")), span.start, span.stop)
        rebuilt[span.row - first, span.place : span.place + len(tokens)] = tokens
    assert rebuilt.tolist() == batch.tokens.tolist()


@settings(max_examples=40, deadline=None)
@given(**CORPORA | {"packing": st.one_of(PACKINGS, SHUFFLED)}, rows=st.integers(1, 6), masked=st.booleans())
def test_once_predicts_each_kept_token_but_the_first_exactly_once(tmp_path_factory, lengths, time, packing, seed, rows, masked):
    shards = make_shards(tmp_path_factory.mktemp("shards"), lengths, masked=masked)
    predicted = Counter()
    for batch in Packed(shards, packing, time=time, seed=seed).once(rows):
        assert 1 <= len(batch) <= rows
        predicted.update(batch.targets[batch.loss_weight > 0].tolist())
    kept = [min(n, time) if isinstance(packing, Fit) else n for n in lengths]
    expected = [int(t) for d, n in enumerate(kept) for t, m in zip(shards.document(d)[1:n], shards.mask(d)[1:n], strict=True) if m]
    assert predicted == Counter(expected)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), max_size=40))
def test_best_fit_never_overfills_and_never_opens_a_row_without_need(lengths):
    placed, used = best_fit(lengths, 20)
    room = []
    for length, row in zip(lengths, placed, strict=True):
        fitting = [r for r in room if r >= length]
        if row == len(room):
            assert not fitting
            room.append(20)
        else:
            assert room[row] == min(fitting)
        room[row] -= length
    assert used == len(room)


def test_fit_wastes_little_on_ordinary_lengths(tmp_path):
    lengths = np.random.default_rng(0).integers(20, 257, 4000)
    arrangement = Fit().arrange(lengths, 256, seed=0)
    assert lengths.sum() / (arrangement.rows_per_epoch() * 256) > 0.97  # one document per row would give 0.54


@pytest.mark.parametrize("packing", [Cut(), Fit()])
def test_epochs_differ_in_order_and_seeds_do_too(packing):
    lengths = np.full(50, 4)
    order = packing.arrange(lengths, 4, seed=1).order
    assert order(0).tolist() != order(1).tolist()
    assert order(0).tolist() != packing.arrange(lengths, 4, seed=2).order(0).tolist()
    assert order(7).tolist() == packing.arrange(lengths, 4, seed=1).order(7).tolist()


def test_fit_mixes_rows_of_long_and_short_documents():
    arrangement = Fit().arrange(np.array([8] * 50 + [4] * 100), 8, seed=0)
    long_rows = int((arrangement.pieces(0, 50).lengths == 8).sum())  # unshuffled, all 50 long documents would come first
    assert 10 < long_rows < 40


@settings(max_examples=40, deadline=None)
@given(lengths=CORPORA["lengths"], time=CORPORA["time"], seed=CORPORA["seed"], packing=SHUFFLED, stretch=st.integers(0, 5))
def test_shuffled_rows_are_those_of_their_stretch_in_another_order(tmp_path_factory, lengths, time, seed, packing, stretch):
    shards, n = make_shards(tmp_path_factory.mktemp("shards"), lengths), packing.shuffled

    def rows(packing: Cut) -> list[tuple]:
        batch = Packed(shards, packing, time=time, seed=seed).batch(stretch * n, n)
        tensors = (batch.tokens, batch.targets, batch.loss_weight, batch.layout.segments)
        return list(zip(*(map(tuple, tensor.tolist()) for tensor in tensors), strict=True))

    assert sorted(rows(packing)) == sorted(rows(Cut()))


def test_shuffling_parts_the_rows_of_a_book():
    books = np.array([4000, 4000])
    documents = [Cut(shuffled=n).arrange(books, 10, seed=0).pieces(0, 40).documents.tolist() for n in (1, 800)]
    assert len(set(documents[0])) == 1
    assert 10 < sum(documents[1]) < 30


@pytest.mark.parametrize("packing", [Cut(), Cut(shuffled=7), Fit(window=3)])  # a window so small that epochs differ in their number of rows
def test_rows_do_not_depend_on_what_was_asked_before(packing):
    lengths = np.random.default_rng(0).integers(1, 9, 30)
    wandering = packing.arrange(lengths, 8, seed=1)
    for row in (90, 0, 40, 200, 3, 90, 120, 0):
        fresh = packing.arrange(lengths, 8, seed=1).pieces(row, 3)
        assert wandering.pieces(row, 3).documents.tolist() == fresh.documents.tolist()


def test_an_empty_corpus_is_refused():
    with pytest.raises(DataError, match="no documents"):
        Cut().arrange(np.array([], int), 8, seed=0)
