"""Slots keep what was written last, to within what they round off, whatever memory it lies in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.nn.slots import Int8, Paged, Plain, Slots

BATCH, CAPACITY, CPU = 3, 12, torch.device("cpu")
shapes = pytest.mark.parametrize("shape", [(4,), (2, 3)], ids=str)
kinds = pytest.mark.parametrize("kind", ["plain", "int8", "pages", "pages of int8"])


def empty(kind: str, shape: tuple[int, ...]) -> Slots:
    """Slots for a few rows; pages lie in any order."""
    whole = Int8.empty(BATCH, CAPACITY, shape, CPU) if "int8" in kind else Plain.empty(BATCH, CAPACITY, shape, torch.float32, CPU)
    if "pages" not in kind:
        return whole
    pages = -(-CAPACITY // 5)
    return Paged(whole.pages(BATCH * pages, 5), torch.randperm(BATCH * pages, generator=torch.Generator().manual_seed(0)).view(BATCH, pages))


def near(kind: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal; in 8 bits, within half a step of each vector."""
    step = wanted.abs().amax(-1, keepdim=True) / 127 if "int8" in kind else torch.zeros(1)
    assert (found - wanted).abs().le(0.5001 * step).all()


@shapes
@kinds
@given(writes=st.lists(st.tuples(st.integers(0, BATCH - 1), st.integers(0, CAPACITY - 1), st.integers(1, 5)), min_size=1, max_size=6),
       scale=st.sampled_from([1e-4, 1.0, 300.0]))  # fmt: skip
@settings(max_examples=8)
def test_what_was_written_last_is_read(kind, shape, writes, scale):
    slots, wanted = empty(kind, shape), torch.zeros(BATCH, CAPACITY, *shape)
    random = torch.Generator().manual_seed(1)
    for row, place, time in writes:
        time = min(time, CAPACITY - place)
        new, places = scale * torch.randn(1, time, *shape, generator=random), torch.arange(place, place + time)[None]
        slots.write(torch.tensor([[row]]), places, new)
        wanted[row, places[0]] = new[0]
    for past in (1, 7, CAPACITY):
        near(kind, slots.read(past), wanted[:, :past])
    near(kind, slots.view(slice(1, 3)).read(CAPACITY), wanted[1:3])


@shapes
@kinds
@pytest.mark.parametrize("other", ["plain", "int8", "pages of int8"])
def test_rows_go_from_one_kind_to_another(kind, shape, other):
    source, slots = empty(other, shape), empty(kind, shape)
    source.write(torch.arange(BATCH)[:, None], torch.arange(6).expand(BATCH, 6), torch.randn(BATCH, 6, *shape))
    slots.put(2, source, 0, 5)
    near(kind, slots.read(5)[2], source.read(5)[0])
    assert not slots.read(CAPACITY)[:2].any()
    assert not slots.read(CAPACITY)[2, 5:].any()
    if "pages" not in kind:
        assert torch.equal(slots.select(torch.tensor([2, 0])).read(CAPACITY), slots.read(CAPACITY)[[2, 0]])


def test_eight_bits_take_a_quarter_and_the_steps():
    plain, coded = Plain.empty(2, 10, (4, 64), torch.float32, CPU), Int8.empty(2, 10, (4, 64), CPU)
    assert plain.nbytes == 4 * 2 * 10 * 4 * 64
    assert coded.nbytes == 2 * 10 * 4 * (64 + 4)
