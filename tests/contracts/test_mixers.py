"""What every `SequenceMixer` promises. A new subclass is tested on arrival: it needs one line in `BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import bloomery.models  # noqa: F401  brings in every mixer that a family uses
from bloomery.nn import Attention, Rope, SequenceLayout, SequenceMixer

D_MODEL, TIME = 24, 12

BUILDERS: dict[str, Callable[[], SequenceMixer]] = {
    "Attention": lambda: Attention(D_MODEL, n_heads=4, n_kv_heads=2, head_dim=8, rope=Rope(8, max_seq_len=32, theta=10_000.0)),
}


def subclasses(cls: type) -> list[type]:
    return [found for child in cls.__subclasses__() for found in (child, *subclasses(child))]


@pytest.fixture(params=subclasses(SequenceMixer), ids=lambda cls: cls.__name__)
def mixer(request: pytest.FixtureRequest) -> SequenceMixer:
    torch.manual_seed(0)
    return BUILDERS[request.param.__name__]().eval()


def inputs(batch: int, time: int = TIME) -> torch.Tensor:
    return torch.randn(batch, time, D_MODEL, generator=torch.Generator().manual_seed(1))


def test_output_has_the_shape_of_the_input(mixer):
    x = inputs(3)
    assert mixer(x, SequenceLayout.rows(3, TIME)).shape == x.shape


def test_a_token_sees_the_past_and_nothing_after_it(mixer):
    x, changed = inputs(1), inputs(1)
    changed[:, 7] += 1.0
    before, after = (mixer(v, SequenceLayout.rows(1, TIME)) for v in (x, changed))
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:], atol=1e-3)


def test_packed_documents_are_mixed_as_if_each_were_alone(mixer):
    x = inputs(1)
    packed = mixer(x, SequenceLayout.packed(torch.tensor([[1] * 5 + [2] * 4 + [0] * 3])))
    for start, end in ((0, 5), (5, 9)):
        alone = mixer(x[:, start:end], SequenceLayout.rows(1, end - start))
        torch.testing.assert_close(packed[:, start:end], alone, atol=1e-5, rtol=0)
    assert packed.isfinite().all()


@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 7], [3, 1, 1, 4, 3], [11, 1]], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_reading_in_pieces_equals_reading_at_once(mixer, pieces, batch):
    x = inputs(batch)
    whole = mixer(x, SequenceLayout.rows(batch, TIME))
    cache = mixer.new_cache(batch, TIME, x.dtype, x.device)
    read, start = [], 0
    for n in pieces:
        positions = torch.arange(start, start + n).expand(batch, n)
        read.append(mixer(x[:, start : start + n], SequenceLayout(positions), cache))
        start += n
    torch.testing.assert_close(torch.cat(read, dim=1), whole, atol=1e-5, rtol=0)


def test_selected_rows_of_a_cache_go_on_as_before(mixer):
    x = inputs(3)
    whole = mixer(x, SequenceLayout.rows(3, TIME))
    cache = mixer.new_cache(3, TIME, x.dtype, x.device)
    mixer(x[:, : TIME - 1], SequenceLayout.rows(3, TIME - 1), cache)
    kept = torch.tensor([2, 0])
    last = mixer(x[kept, TIME - 1 :], SequenceLayout(torch.full((2, 1), TIME - 1)), cache.select(kept))
    torch.testing.assert_close(last, whole[kept, TIME - 1 :], atol=1e-5, rtol=0)


def test_gradients_reach_every_parameter(mixer):
    mixer(inputs(2), SequenceLayout.rows(2, TIME)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mixer.parameters())
