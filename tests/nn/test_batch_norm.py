"""Batch norm: torch's own numbers, without padding; statistics that checkpoints keep; and what it breaks."""

import pytest
import torch

from bloomery.mesh import ALONE
from bloomery.models import TransformerConfig, read_model, write_model
from bloomery.nn import AttentionConfig, BatchNormConfig, GatedConfig, SequenceLayout
from bloomery.optim import AdamW, Average
from bloomery.train import Checkpoints, TrainState

CONFIG = TransformerConfig(
    vocab_size=64, d_model=16, n_layers=2, max_seq_len=16, mixers=(AttentionConfig(n_heads=2),), feed_forwards=(GatedConfig(d_ff=24),),
    norm=BatchNormConfig(),
)
TOKENS = torch.randint(64, (3, 10), generator=torch.Generator().manual_seed(1))
PADDED = torch.tensor([[1] * 10, [1] * 4 + [2] * 3 + [0] * 3, [1] * 6 + [0] * 4])


def moved(model):
    """A model whose running statistics have seen a few batches."""
    for seed in range(3):
        model.train()(torch.randint(64, (3, 10), generator=torch.Generator().manual_seed(seed)), SequenceLayout.rows(3, 10))
    return model


def test_equals_torchs_in_training_and_evaluation():
    ours, theirs = BatchNormConfig(momentum=0.2).build(7), torch.nn.BatchNorm1d(7, momentum=0.2)
    with torch.no_grad():
        for parameter, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
            other.copy_(parameter.normal_())
        ours.mean.zero_(), ours.variance.fill_(1.0)
    x = torch.randn(4, 5, 7) * 3 + 1
    torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).unflatten(0, (4, 5)))
    torch.testing.assert_close(ours.mean.data, theirs.running_mean)
    torch.testing.assert_close(ours.variance.data, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.flatten(0, 1)).unflatten(0, (4, 5)))


def test_padding_is_not_counted():
    layout, other = SequenceLayout.packed(PADDED), torch.where(PADDED == 0, 63, TOKENS)
    one, two = CONFIG.build(0), CONFIG.build(0)
    first, second = one.train()(TOKENS, layout), two.train()(other, layout)
    torch.testing.assert_close(first[PADDED > 0], second[PADDED > 0])
    assert all(torch.allclose(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other[0, 0] = (other[0, 0] + 1) % 64  # whereas any real token changes all others
    assert not torch.allclose(second[2, :6], CONFIG.build(0).train()(other, layout)[2, :6])


def test_evaluation_keeps_documents_apart():
    model = moved(CONFIG.build(0)).eval()
    other = TOKENS.clone()
    other[1:] = 5
    assert torch.equal(model(TOKENS, SequenceLayout.rows(3, 10))[0], model(other, SequenceLayout.rows(3, 10))[0])


def test_running_statistics_are_no_trainable_parameters():
    model = CONFIG.build(0)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen == 5 * 2 * 16
    assert CONFIG.n_params == sum(p.numel() for p in model.parameters()) - frozen
    assert len(AdamW().build(model).parameters) == sum(1 for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_checkpoints_of_models_and_of_trainings_hold_them(tmp_path, ema):
    model = moved(CONFIG.build(0))
    assert model.norm.mean.abs().max() > 0
    write_model(tmp_path / "model", CONFIG, model)
    _, read = read_model(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), read.parameters(), strict=True))

    def state(model):
        return TrainState(model, AdamW().build(model), None if ema is None else Average(dict(model.named_parameters()), ema), step=3)

    checkpoints = Checkpoints(tmp_path / "checkpoints", ALONE)
    checkpoints.save(state(model))
    fresh = state(CONFIG.build(1))
    assert checkpoints.resume(fresh)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.model.parameters(), strict=True))


def test_gradients_reach_the_factor_and_bias_but_no_statistics():
    model = CONFIG.build(0)
    model.train()(TOKENS, SequenceLayout.packed(PADDED)).square().mean().backward()
    assert model.norm.weight.grad.abs().max() > 0
    assert model.norm.mean.grad is None
