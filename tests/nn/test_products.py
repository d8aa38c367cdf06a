"""Products without a gradient: the same by either library, and kept where products are kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.adapter_examples import LLAMA
from torch.utils.checkpoint import CheckpointPolicy

from bloomery.nn import SequenceLayout, products
from bloomery.nn.adapters import LoRA
from bloomery.nn.cross_entropy import chunked_cross_entropy, naive_cross_entropy
from bloomery.nn.products import onednn_takes, product
from bloomery.train import recompute as recomputation
from bloomery.train.recompute import Recompute, recompute

needs_onednn = pytest.mark.skipif(products.ONEDNN is None, reason="torch was built without oneDNN")
SIDES = st.integers(1, 40)


EITHER = pytest.mark.parametrize("least", [0, 1 << 60], ids=["onednn", "blas"])
"""All products by one of them."""


@EITHER
@given(rows=SIDES, columns=SIDES, height=SIDES, bias=st.booleans(), transposed=st.booleans())
def test_either_library_gives_the_product(least, rows, columns, height, bias, transposed):
    draw = torch.Generator().manual_seed(rows * columns + height)
    x = torch.randn(rows, columns, generator=draw)
    matrix = torch.randn(columns, height, generator=draw).T if transposed else torch.randn(height, columns, generator=draw)
    b = torch.randn(height, generator=draw) if bias else None
    exact = x.double() @ matrix.double().T + (0 if b is None else b.double())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "LEAST_OPERATIONS", least)
        torch.testing.assert_close(product(x, matrix, b).double(), exact, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_whose_a_product_is():
    x, matrix = torch.randn(256, 256), torch.nn.Parameter(torch.randn(256, 256))
    assert onednn_takes(x, matrix)
    assert not onednn_takes(x[:2], matrix)  # small
    assert not onednn_takes(x.double(), matrix.double())
    assert not onednn_takes(x.to("meta"), matrix.to("meta"))
    assert not onednn_takes(x, torch.nn.Buffer(matrix.detach()).as_subclass(type("Wrapper", (torch.Tensor,), {})))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not onednn_takes(x, matrix)


def adapted(seed=0):
    model = LLAMA.build(seed=seed)
    with torch.no_grad():
        for parameter in LoRA(rank=3).attach(model, seed=1).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    return model


def gradients(model):
    tokens = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(2))
    model.zero_grad()
    model(tokens, SequenceLayout.rows(*tokens.shape)).log_softmax(-1)[..., 3].sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@needs_onednn
@pytest.mark.parametrize("again", [None, "full", "selective"])
def test_adapters_learn_the_same_by_either_library(again, monkeypatch):
    expected, model = gradients(adapted()), adapted()
    monkeypatch.setattr(products, "LEAST_OPERATIONS", 0)
    if again:
        recompute(model, Recompute(again))
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


@needs_onednn
def test_selective_recomputation_keeps_what_onednn_has_multiplied(monkeypatch):
    monkeypatch.setattr(products, "LEAST_OPERATIONS", 0)
    asked = []
    policy = recomputation._policy

    def told(context, operation, *arguments, **named):
        answer = policy(context, operation, *arguments, **named)
        asked.append((operation, answer))
        return answer

    monkeypatch.setattr(recomputation, "_policy", told)
    model = adapted()
    recompute(model, Recompute("selective"))
    gradients(model)
    kept = [answer for operation, answer in asked if operation is products.ONEDNN.default]
    assert kept
    assert set(kept) == {CheckpointPolicy.MUST_SAVE}


@EITHER
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 1e-3}, {"softcap": 5.0}], ids=str)
def test_a_chunked_loss_is_that_by_the_book(least, options, monkeypatch):
    monkeypatch.setattr(products, "LEAST_OPERATIONS", least)
    draw = torch.Generator().manual_seed(0)
    features, head, bias = (torch.randn(*size, generator=draw, requires_grad=True) for size in ((70, 12), (31, 12), (31,)))
    targets, weights = torch.randint(0, 31, (70,), generator=draw), torch.rand(70, generator=draw)
    fast, slow = (f(features, head, targets, weights, bias=bias, **options)[0] for f in (chunked_cross_entropy, naive_cross_entropy))
    torch.testing.assert_close(fast, slow)
    leaves = [features, head, bias]
    for mine, others in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(mine, others, rtol=1e-4, atol=1e-5)
