"""Matrices in few bits: how near they come, what they cost, and that products with them have the right gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.adapter_examples import LLAMA

from bloomery.core.errors import ConfigError
from bloomery.nn.adapters import Int8, Nf4, QLoRA
from bloomery.nn.adapters.quantised import LEVELS, QuantisedLinear
from bloomery.nn.linear import Linear, Use

EVERY = pytest.mark.parametrize("quantisation", [Int8(), Nf4(), Int8(block=8), Nf4(block=6)], ids=str)


def gap(quantisation) -> float:
    """The largest distance between neighbouring numbers that codes stand for, of a largest number of 1."""
    levels = torch.tensor(LEVELS) if isinstance(quantisation, Nf4) else torch.arange(-127, 128) / 127
    return levels.diff().max().item()


@EVERY
@given(rows=st.integers(1, 5), columns=st.sampled_from(range(2, 82, 2)), scale=st.sampled_from([1e-6, 1.0, 1e4]), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_every_number_is_within_half_a_gap_of_what_it_was(quantisation, rows, columns, scale, seed):
    weight = scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    codes, scales = quantisation.quantise(weight)
    assert (codes.shape, scales.shape) == tuple(one.shape for one in quantisation.empty(rows, columns))
    error = (quantisation.dequantise(codes, scales) - weight).abs().unflatten(1, (scales.shape[1], -1))
    assert (error <= scales[..., None] * (gap(quantisation) / 2 * (1 + 1e-5))).all()


@EVERY
def test_what_codes_stand_for_is_kept_exactly_and_zeros_stay(quantisation):
    weight = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))
    weight[1] = 0.0
    once = quantisation.dequantise(*quantisation.quantise(weight))
    torch.testing.assert_close(quantisation.dequantise(*quantisation.quantise(once)), once, atol=0, rtol=1e-6)
    assert not once[1].any()


@EVERY
def test_products_and_gradients_are_those_of_the_matrix_that_is_kept(quantisation):
    linear = Linear(24, (6, 4), (Use.QUERY, Use.KEY), bias=True)
    kept, x = QuantisedLinear(linear, quantisation), torch.randn(3, 5, 24, requires_grad=True)
    expected = torch.nn.functional.linear(x, kept.base, linear.bias)
    torch.testing.assert_close(kept(x), expected)
    cotangent = torch.randn(3, 5, 10)
    (ours,), (theirs,) = (torch.autograd.grad(y, x, cotangent) for y in (kept(x), expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("bits", "share"), [(Nf4(), 0.15), (Int8(), 0.28)], ids=str)
def test_a_quantised_base_takes_a_fraction_of_its_memory(bits, share):
    base = LLAMA.replace(d_model=128, d_ff=256, head_dim=32).build(seed=0)
    paths = ("mixer", "ff")
    before = sum(p.nbytes for name, p in base.named_parameters() if name.split(".")[0] == "blocks" and name.split(".")[2] in paths)
    QLoRA(rank=1, bits=bits).attach(base)
    after = sum(p.nbytes for name, p in base.named_parameters() if name.endswith((".codes", ".scales")))
    assert after <= share * before


def test_nf4_refuses_an_odd_number_of_columns():
    with pytest.raises(ConfigError, match=r"has 7 columns; take Int8"):
        Nf4().empty(2, 7)
