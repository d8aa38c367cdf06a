"""Products in 8 bits: near those of fp32 in value and gradient, scaled by what is largest, and only where the units take them."""

import pytest
import torch
from tests.train.toys import fresh, reports
from torch.nn import functional as F

from bloomery.models import LlamaConfig
from bloomery.nn.float8 import FORWARD, float8_product, scaled, use_float8
from bloomery.nn.linear import Linear


def error(found, wanted):
    return ((found.float() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_values_and_gradients_are_near_whatever_their_size(size):
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator, requires_grad=True) for shape in ((2, 16, 64), (128, 64)))
    g = torch.randn(2, 16, 128, generator=generator)
    found = float8_product(x * size, w, None)
    by = torch.autograd.grad(found, (x, w), (g * size).to(found.dtype))
    wanted = F.linear(x * size, w)
    assert 0.001 < error(found, wanted) < 0.05  # 3 bits of mantissa: 2⁻⁴ at most, each; nothing exact came in between
    for one, other in zip(by, torch.autograd.grad(wanted, (x, w), g * size), strict=True):
        assert error(one, other) < 0.09


def test_a_bias_is_added_and_odd_numbers_of_rows_are_taken():
    x, w, b = torch.randn(3, 5, 32), torch.randn(16, 32), torch.randn(16)
    assert error(float8_product(x, w, b), F.linear(x, w, b)) < 0.02
    even = torch.randn(16, 32)
    assert error(float8_product(even, w, b), F.linear(even, w, b)) < 0.05


def test_zeros_stay_zeros():
    x8, back = scaled(torch.zeros(16, 16), FORWARD)
    assert (x8.float() * back == 0).all()


def test_only_layers_whose_sizes_the_units_take_compute_so():
    model = LlamaConfig(vocab_size=32, d_model=32, n_layers=2, n_heads=2, d_ff=40, max_seq_len=16).build(seed=0)  # 2 · 40 = 80 = 5 · 16
    assert use_float8(model) == 6  # of each layer: queries, keys and values; the mixer's output; gate and up; not the way down from 40
    assert [layer.product is float8_product for layer in model.modules() if isinstance(layer, Linear)] == [True, True, True, False] * 2


def test_training_in_fp8_learns_as_fp32_does():
    exact, half, eighth = (reports(fresh(), steps=25, rows=4, precision=precision) for precision in ("fp32", "bf16", "fp8"))
    assert [r.loss for r in eighth] != [r.loss for r in half]
    assert eighth[-1].loss == pytest.approx(exact[-1].loss, rel=0.05)
