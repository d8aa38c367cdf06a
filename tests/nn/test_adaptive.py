"""The adaptive softmax against torch's, and as a head of a model."""

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.data import NextToken
from bloomery.models import TransformerConfig, read_model, write_model
from bloomery.nn import AttentionConfig, GatedConfig
from bloomery.nn.adaptive import AdaptiveHead, AdaptiveSoftmaxConfig
from bloomery.objectives import CausalLM, Models


def pair(bias=False, cutoffs=(7, 15, 30)):
    torch.manual_seed(0)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(32, 61, list(cutoffs), div_value=2.0, head_bias=bias)
    ours = AdaptiveHead(32, 61, AdaptiveSoftmaxConfig(cutoffs=cutoffs, shrink=2.0, bias=bias))
    with torch.no_grad():
        for mine, its in zip(ours.parameters(), parameters(theirs), strict=True):
            mine.copy_(its)
    return ours, theirs


def parameters(theirs):
    return [theirs.head.weight, *([] if theirs.head.bias is None else [theirs.head.bias]), *theirs.tail.parameters()]


def places(n=200):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 32, generator=generator, requires_grad=True), torch.randint(61, (n,), generator=generator)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cutoffs", [(7, 15, 30), (60,)], ids=str)
def test_loss_and_gradients_are_torchs(bias, cutoffs):
    ours, theirs = pair(bias, cutoffs)
    features, targets = places()
    weights = torch.rand(200, generator=torch.Generator().manual_seed(2))
    weights[::3] = 0
    total, nll = ours.cross_entropy(features, targets, weights)
    mine = torch.autograd.grad(total, [features, *ours.parameters()])
    wanted = -(theirs(features, targets).output * weights).sum()
    torch.testing.assert_close(total, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nll, wanted.detach(), rtol=1e-5, atol=1e-5)
    for a, b in zip(mine, torch.autograd.grad(wanted, [features, *parameters(theirs)]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_log_probabilities_are_torchs_and_a_distribution():
    ours, theirs = pair()
    features, targets = places()
    found = ours(features)
    torch.testing.assert_close(found, theirs.log_prob(features), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(200))
    torch.testing.assert_close(ours.cross_entropy(features, targets, torch.ones(200))[0], -found.gather(1, targets[:, None]).sum())


def test_a_cluster_without_targets_is_not_read():
    ours, _ = pair()
    features, _ = places()
    calls = []
    ours.clusters[2].narrow.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    total, _ = ours.cross_entropy(features, torch.full((200,), 3), torch.ones(200))
    total.backward()
    assert calls == [0]
    assert not ours.clusters[2].tokens.weight.grad.any()


def test_no_tensor_of_all_logits_is_held(monkeypatch):
    from bloomery.nn import cross_entropy

    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", 1)  # chunks of 64 places
    head, largest = AdaptiveHead(8, 2000, AdaptiveSoftmaxConfig(cutoffs=(100, 500), shrink=2.0)), 0

    class Look(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            largest = max(largest, result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Look():
        head.cross_entropy(torch.randn(640, 8, requires_grad=True), torch.randint(2000, (640,)), torch.ones(640))[0].backward()
    assert largest <= 64 * 1500


def test_z_loss_is_on_each_softmax_that_is_read():
    ours, _ = pair()
    features, _ = places(1)
    (with_it, nll), (_, same) = (ours.cross_entropy(features, torch.tensor([40]), torch.ones(1), 0.0, z) for z in (0.5, 0.0))
    squares = ours.top(features).logsumexp(-1).square() + ours.clusters[2](features).logsumexp(-1).square()
    torch.testing.assert_close(with_it - nll, 0.5 * squares.sum())
    assert nll == same


def model(**changes):
    head = AdaptiveSoftmaxConfig(cutoffs=(10, 20), shrink=2.0)
    fields = {"vocab_size": 40, "d_model": 16, "n_layers": 2, "mixers": (AttentionConfig(n_heads=2),), "feed_forwards": (GatedConfig(d_ff=24),)}
    return TransformerConfig(**fields | {"head": head} | changes)


def test_it_is_a_head_like_others():
    from tests.contracts.objective_examples import uneven

    config = model()
    built = config.build(seed=0)
    assert config.n_params == sum(p.numel() for p in built.parameters())
    (term,) = CausalLM()(Models(built), uneven())
    term.total.backward()
    assert all(p.grad is not None for p in built.parameters())
    assert built.head.clusters[1].tokens.weight.std().item() == pytest.approx(0.02, rel=0.4)


def test_it_is_written_and_read_with_its_model(tmp_path):
    config = model()
    write_model(tmp_path, config, config.build(seed=0))
    assert read_model(tmp_path)[0] == config


def test_it_costs_less_than_all_logits_and_by_zipf_what_it_says():
    config = AdaptiveSoftmaxConfig(cutoffs=(2_000, 10_000))
    cost, full = config.flops(512, 50_000), 2.0 * 512 * 50_000
    assert 0.04 < cost / full < 0.12
    one = AdaptiveSoftmaxConfig(cutoffs=(1,), shrink=2.0)
    assert one.flops(8, 3) == pytest.approx(2 * 8 * 2 + (5 / 6) / (11 / 6) * 2 * 4 * (8 + 2))


@pytest.mark.parametrize(("build", "message"), [
    (lambda: AdaptiveSoftmaxConfig(cutoffs=(20, 10)), "do not ascend"),
    (lambda: model(head=AdaptiveSoftmaxConfig(cutoffs=(40,))), "leave no token of vocab_size=40 to the last cluster"),
    (lambda: model(head=AdaptiveSoftmaxConfig(cutoffs=(5, 10, 20))), "leaves the last of 3 clusters no feature of d_model=16"),
    (lambda: CausalLM(label_smoothing=0.1).check_training(model(), NextToken()), "label_smoothing=0.1 .*set it to 0"),
    (lambda: pair()[0].cross_entropy(*places(), torch.ones(200), 0.1), "set it to 0"),
])  # fmt: skip
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
