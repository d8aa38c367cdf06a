"""Fingerprints: parts add up to the whole, however it is divided; no change and no change of place goes unseen."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.mesh import Part
from bloomery.train.checkpoints import fingerprint as module
from bloomery.train.checkpoints.fingerprint import fingerprint, summed_up

TYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.uint8, torch.int64])
BLOCKS = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 50).to(dtype)


@given(blocks=BLOCKS, ranks=st.integers(1, 4), shards=st.integers(1, 5), dtype=TYPES)
def test_parts_add_up(blocks, ranks, shards, dtype):
    heights = tuple(ranks * block for block in blocks)
    whole = random((sum(heights), 3), dtype)
    every = Part.whole(whole.shape)
    parts = [every.divided(0, heights, i, ranks).stretch(0, j, shards) for i in range(ranks) for j in range(shards)]
    assert summed_up(fingerprint(part, part.take(whole)) for part in parts) == fingerprint(every, whole)


@given(at=st.integers(0, 34), bit=st.integers(0, 31))
def test_no_changed_bit_goes_unseen(at, bit):
    numbers = random((5, 7), torch.float32)
    before = fingerprint(Part.whole(numbers.shape), numbers)
    numbers.view(torch.int32).flatten()[at] ^= (1 << bit) - ((1 << 32) if bit == 31 else 0)
    assert fingerprint(Part.whole(numbers.shape), numbers) != before


@given(first=st.integers(0, 34), second=st.integers(0, 34))
def test_no_change_of_places_goes_unseen(first, second):
    numbers = random((35,), torch.float32)
    part = Part.whole(numbers.shape)
    order = torch.arange(35)
    order[first], order[second] = second, first
    assert (fingerprint(part, numbers[order]) == fingerprint(part, numbers)) == (first == second)


def test_how_much_is_looked_at_at_once_changes_nothing(monkeypatch):
    numbers, scalar = random((9, 4, 2), torch.float32), torch.tensor(3.5)
    found = fingerprint(Part.whole(numbers.shape), numbers)
    monkeypatch.setattr(module, "AT_ONCE", 16)
    assert fingerprint(Part.whole(numbers.shape), numbers) == found
    assert fingerprint(Part.whole(()), scalar) == scalar.view(torch.int32).item()
    assert fingerprint(Part.whole((0, 3)), torch.zeros(0, 3)) == 0
