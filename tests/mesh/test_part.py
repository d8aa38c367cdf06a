"""Parts of tensors: what ranks hold makes up the whole, once."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.mesh import Part


@st.composite
def divisions(draw):
    """A shape, blocks along one of its dimensions, and how many ranks share these, and then the rows of what each has."""
    ranks, stretches = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    blocks = draw(st.lists(st.integers(1, 3).map(lambda n: n * ranks), min_size=1, max_size=3))
    dim, other = draw(st.integers(0, 1)), draw(st.integers(1, 7))
    shape = (sum(blocks), other) if dim == 0 else (other, sum(blocks))
    return shape, dim, blocks, ranks, stretches


@given(divisions())
def test_parts_of_all_ranks_make_up_the_whole_once(division):
    shape, dim, blocks, ranks, stretches = division
    whole = torch.arange(shape[0] * shape[1]).view(shape)
    back, times = torch.zeros_like(whole), torch.zeros_like(whole)
    for rank in range(ranks):
        for stretch in range(stretches):
            part = Part.whole(shape).divided(dim, blocks, rank, ranks).stretch(0, stretch, stretches)
            numbers = part.take(whole)
            assert tuple(numbers.shape) == part.local_shape
            part.put(back, numbers)
            part.put(times, part.take(times) + 1)
    assert torch.equal(back, whole)
    assert torch.equal(times, torch.ones_like(whole))


@given(divisions())
def test_a_share_of_stacked_matrices_is_the_shares_of_each(division):
    shape, dim, blocks, ranks, _ = division
    whole = torch.arange(shape[0] * shape[1]).view(shape)
    for rank in range(ranks):
        expected = torch.cat([block.chunk(ranks, dim)[rank] for block in whole.split(blocks, dim)], dim)
        assert torch.equal(Part.whole(shape).divided(dim, blocks, rank, ranks).take(whole), expected)
