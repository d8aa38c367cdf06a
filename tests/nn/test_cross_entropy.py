"""The chunked cross-entropy against the book and against torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bloomery.nn import cross_entropy
from bloomery.nn.cross_entropy import chunked_cross_entropy, naive_cross_entropy


def inputs(n=150, d=16, vocab=37):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, d, generator=generator, requires_grad=True)
    head = torch.randn(vocab, d, generator=generator, requires_grad=True)
    weights = torch.rand(n, generator=generator)
    weights[::5] = 0
    return features, head, torch.randint(vocab, (n,), generator=generator), weights


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_chunked_equals_naive_in_value_and_gradient(smoothing, z_loss, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", 37 * 64)  # three chunks, the last one shorter
    features, head, targets, weights = inputs()
    results = []
    for loss in (naive_cross_entropy, chunked_cross_entropy):
        features.grad = head.grad = None
        total, nll = loss(features, head, targets, weights, smoothing, z_loss)
        (total / 7).backward()
        results.append((total.detach(), nll, features.grad, head.grad))
    for slow, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)


@given(
    st.integers(1, 200), st.integers(2, 50), st.booleans(), st.sampled_from([None, 0.5, 3.0, 50.0]), st.sampled_from([0.0, 0.15]),
    st.sampled_from([0.0, 1e-2]), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_biases_and_caps_are_by_the_book_in_value_and_every_gradient(n, vocab, biased, softcap, smoothing, z_loss, seed):
    generator = torch.Generator().manual_seed(seed)
    features, head = (torch.randn(rows, 8, generator=generator, requires_grad=True) for rows in (n, vocab))
    bias = torch.randn(vocab, generator=generator, requires_grad=True) if biased else None
    targets, weights = torch.randint(vocab, (n,), generator=generator), torch.rand(n, generator=generator)
    leaves, results = [features, head, *([bias] if biased else [])], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK_LOGITS", 1)  # chunks of 64 places
        for loss in (naive_cross_entropy, chunked_cross_entropy):
            total, nll = loss(features, head, targets, weights, smoothing, z_loss, bias=bias, softcap=softcap)
            results.append([total.detach(), nll, *torch.autograd.grad(3 * total, leaves)])
    for slow, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


def test_a_frozen_matrix_still_gives_the_bias_its_gradient():
    features, head, targets, weights = inputs()
    bias = torch.zeros(37, requires_grad=True)
    chunked_cross_entropy(features.detach(), head.detach(), targets, weights, bias=bias)[0].backward()
    (wanted,) = torch.autograd.grad(naive_cross_entropy(features, head, targets, weights, bias=bias)[0], bias)
    torch.testing.assert_close(bias.grad, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_equals_torch_cross_entropy(smoothing):
    features, head, targets, weights = inputs()
    total, _ = chunked_cross_entropy(features, head, targets, weights, smoothing)
    theirs = F.cross_entropy(features @ head.T, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(total, (theirs * weights).sum())


def test_z_loss_is_the_squared_log_partition():
    features, head, targets, weights = inputs()
    with_it, nll = chunked_cross_entropy(features, head, targets, weights, 0.0, 0.5)
    torch.testing.assert_close(with_it - nll, 0.5 * (weights * (features @ head.T).logsumexp(-1).square()).sum())


@pytest.mark.parametrize(("softcap", "smoothing", "z_loss"), [(None, 0.0, 0.0), (5.0, 0.1, 1e-2)])
def test_no_tensor_of_all_logits_is_held(softcap, smoothing, z_loss, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", 512 * 64)
    features, head = torch.randn(640, 8, requires_grad=True), torch.randn(512, 8, requires_grad=True)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            largest = max(largest, result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    targets, weights, bias = torch.zeros(640, dtype=torch.long), torch.ones(640), torch.zeros(512, requires_grad=True)
    with Watch():
        chunked_cross_entropy(features, head, targets, weights, smoothing, z_loss, bias=bias, softcap=softcap)[0].backward()
    assert largest <= 512 * 64


def test_a_frozen_head_still_gives_the_features_their_gradient():
    features, head, targets, weights = inputs()
    chunked_cross_entropy(features, head.detach(), targets, weights)[0].backward()
    expected = torch.autograd.grad(naive_cross_entropy(features, head, targets, weights)[0], features)[0]
    torch.testing.assert_close(features.grad, expected, rtol=1e-5, atol=1e-5)
    assert head.grad is None
