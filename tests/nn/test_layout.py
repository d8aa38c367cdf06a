from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.nn import SequenceLayout


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 3))
def test_packed_mask_is_the_definition_place_by_place(lengths, n_padding):
    segments = [i for i, n in enumerate(lengths, 1) for _ in range(n)] + [0] * n_padding
    layout = SequenceLayout.packed(torch.tensor([segments]))
    for i in range(len(segments)):
        for j in range(len(segments)):
            assert bool(layout.mask[0, 0, i, j]) == (segments[i] == segments[j] and j <= i)
    starts = {segment: segments.index(segment) for segment in segments}
    assert layout.positions[0].tolist() == [i - starts[segment] for i, segment in enumerate(segments)]


def test_rows_without_segments_need_no_mask():
    assert SequenceLayout.rows(2, 3).mask is None


def test_a_layout_that_sees_the_future_has_a_symmetric_mask():
    layout = SequenceLayout(torch.arange(3)[None], torch.tensor([[1, 1, 2]]), causal=False)
    assert layout.mask[0, 0].tolist() == [[True, True, False], [True, True, False], [False, False, True]]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 3))
def test_past_mask_shows_the_slots_up_to_the_own_position(starts, time):
    positions = torch.tensor(starts)[:, None] + torch.arange(time)
    layout = SequenceLayout(positions)
    assert layout.past == max(starts) + time
    seen = layout.past_mask
    if seen is None:
        seen = torch.ones(len(starts), 1, time, layout.past, dtype=torch.bool)
    assert seen[:, 0].sum(-1).tolist() == (positions + 1).tolist()
    assert all(seen[b, 0, t, : p + 1].all() for b, row in enumerate(positions.tolist()) for t, p in enumerate(row))


def test_some_rows_of_a_layout_are_those_rows():
    layout = SequenceLayout.packed(torch.tensor([[1, 1, 2], [1, 2, 2]]))[1:]
    assert (layout.positions.tolist(), layout.segments.tolist()) == ([[0, 0, 1]], [[1, 2, 2]])
