"""What every Source keeps: one global order, whatever the batch size, the ranks and the resume point."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from tests.data.corpora import make_shards
from tests.data.tasks import vocabulary

from bloomery.core.errors import ConfigError
from bloomery.data.mixture import Mixture
from bloomery.data.packing import Cut, Each, Fit, Packing
from bloomery.data.source import Cursor, Packed, Source
from bloomery.data.tasks import MaskedTokens, Posed

LENGTHS = np.random.default_rng(0).integers(1, 14, 23).tolist()


def cut(folder) -> Source:
    return Packed(make_shards(folder, LENGTHS), Cut(), time=6, seed=3)


def fit(folder) -> Source:
    return Packed(make_shards(folder, LENGTHS, masked=True), Fit(window=9), time=6, seed=3)


def each(folder) -> Source:
    return Packed(make_shards(folder, LENGTHS), Each(), time=6, seed=3)


def mixture(folder) -> Source:
    return Mixture({"a": cut(folder / "a"), "b": fit(folder / "b"), "c": cut(folder / "c")}, {"a": 0.5, "b": 0.3, "c": 0.2})


def masked(folder) -> Source:
    return Posed(cut(folder), MaskedTokens(rate=0.5), time=6, seed=4, vocabulary=vocabulary())


CASES = {
    "cut": (cut, Packed, Cut), "fit": (fit, Packed, Fit), "each": (each, Packed, Each),
    "mixture": (mixture, Mixture, None), "masked": (masked, Posed, None),
}  # fmt: skip


@pytest.fixture(params=CASES)
def source(request, tmp_path) -> Source:
    return CASES[request.param][0](tmp_path)


def equal(a, b) -> bool:
    """Whether two batches are the same in everything but `first_row`."""
    tensors = [(x.tokens, x.targets, x.loss_weight, x.layout.segments, x.layout.positions) for x in (a, b)]
    return all(torch.equal(x, y) for x, y in zip(*tensors, strict=True))


def test_every_source_and_packing_has_a_case():
    ours = [kind for kind in (*Source.__subclasses__(), *Packing.__subclasses__()) if kind.__module__.startswith("bloomery.data.")]
    assert set(ours) == {kind for _, *kinds in CASES.values() for kind in kinds if kind}


def test_batches_are_well_formed(source):
    batch = source.batch(5, 8)
    assert batch.first_row == 5
    assert batch.tokens.shape == batch.targets.shape == batch.loss_weight.shape == batch.layout.segments.shape == (8, source.time)
    assert (batch.tokens.dtype, batch.targets.dtype, batch.loss_weight.dtype) == (torch.int64, torch.int64, torch.float32)
    for ids in (batch.tokens, batch.targets):
        assert 0 <= int(ids.min()) <= int(ids.max()) < source.vocab_size
    assert batch.weight > 0
    assert not batch.loss_weight[batch.layout.segments == 0].any()


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_batch_size_does_not_change_a_row(source, rows):
    whole = source.batch(2, 42)
    for first, part in zip(range(0, 42, rows), whole.split(rows), strict=True):
        assert equal(source.batch(2 + first, rows), part)


@pytest.mark.parametrize("consumed", [0, 1, 4, 17])
def test_resume_at_any_cursor_equals_uninterrupted(source, tmp_path, consumed):
    steps = list(itertools.islice(source.resume(Cursor(), 4), consumed + 5))
    cursor = steps[consumed - 1][1] if consumed else Cursor()
    cursor = Cursor.from_plain(json.loads(json.dumps(cursor.to_plain())))
    for (batch, after), (expected, expected_after) in zip(source.resume(cursor, 4), steps[consumed:], strict=False):
        assert equal(batch, expected)
        assert batch.first_row == expected.first_row == after.rows - 4
        assert after == expected_after
        assert after.tokens == after.rows * source.time


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_out_the_same_rows(source, ranks):
    shares = [itertools.islice(source.resume(Cursor(), 7, rank, ranks), 6) for rank in range(ranks)]
    for (expected, cursor), *parts in zip(itertools.islice(source.resume(Cursor(), 7), 6), *shares, strict=True):
        assert [after for _, after in parts] == [cursor] * ranks
        assert sum(len(part) for part, _ in parts) == 7
        for part, _ in parts:
            assert equal(part, source.batch(part.first_row, len(part)))
        assert torch.cat([part.tokens for part, _ in parts]).tolist() == expected.tokens.tolist()


def test_changing_the_batch_size_midway_keeps_the_order(source):
    steps = source.resume(Cursor(), 3)
    _, cursor = next(steps)
    batch, _ = next(source.resume(cursor, 5))
    assert equal(batch, source.batch(3, 5))


def test_sequence_hash_depends_on_rows_not_on_their_sharing(source):
    whole = source.sequence_hash(4, 20)
    assert whole == sum(source.sequence_hash(first, 5) for first in range(4, 24, 5)) % (1 << 64)
    assert whole != source.sequence_hash(5, 20)


def test_supply_adds_up_and_documents_cover_the_rows(source):
    assert sum(part.rows for part in source.supply(57)) == 57
    spans = source.documents(9, 11)
    assert [span.row for span in spans] == sorted(span.row for span in spans)
    assert {span.row for span in spans} == set(range(9, 20))
    used = int((source.batch(9, 11).layout.segments > 0).sum())
    assert sum(span.stop - span.start for span in spans) == used


def test_cursors_of_another_row_length_are_refused(source):
    with pytest.raises(ConfigError, match="time=6"):
        next(source.resume(Cursor(rows=4, tokens=4 * 8), 4))


def test_more_ranks_than_rows_are_refused(source):
    with pytest.raises(ConfigError, match="cannot be shared by 5 ranks"):
        next(source.resume(Cursor(), 4, 0, 5))
