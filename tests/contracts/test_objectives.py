"""What every objective keeps, newcomers included."""

import pytest
import torch

from bloomery.data.batch import Batch
from bloomery.models import LlamaConfig
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import CausalLM, Combined, Models, Objective

TINY = LlamaConfig(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, max_seq_len=16)
EXAMPLES = {Combined: 0.5 * CausalLM() + 0.25 * CausalLM(z_loss=0.1)}
"""Values for those that cannot be built from their defaults."""


def everything(kind):
    return [kind, *(found for child in kind.__subclasses__() for found in everything(child))]


def batch(rows=5, time=12):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(32, (rows, time), generator=generator)
    weight = (torch.rand(rows, time, generator=generator) < torch.linspace(0.1, 1.0, rows)[:, None]).float()
    return Batch(tokens, tokens.roll(-1, 1), weight, SequenceLayout.rows(rows, time))


@pytest.mark.parametrize("kind", everything(Objective)[1:], ids=lambda kind: kind.__name__)
class TestEveryObjective:
    def test_totals_weights_and_metrics_of_parts_add_up_to_the_whole(self, kind):
        objective, models, whole = EXAMPLES.get(kind) or kind(), Models(TINY.build(seed=0)), batch()
        once = objective(models, whole)
        parts = [objective(models, part) for part in whole.split(2)]
        torch.testing.assert_close(sum(p.total for p in parts), once.total, rtol=1e-5, atol=1e-5)
        assert sum(p.weight for p in parts) == pytest.approx(once.weight)
        for name, value in once.metrics.items():
            torch.testing.assert_close(sum(p.metrics[name] for p in parts), value, rtol=1e-5, atol=1e-5)
            assert not value.requires_grad

    def test_a_place_of_no_weight_has_no_gradient(self, kind):
        objective, model, whole = EXAMPLES.get(kind) or kind(), TINY.build(seed=0), batch()
        silent = Batch(whole.tokens, whole.targets, torch.zeros_like(whole.loss_weight), whole.layout)
        objective(Models(model), silent).total.backward()
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_composition_weighs_its_terms():
    models, whole = Models(TINY.build(seed=0)), batch()
    a, b = CausalLM(), CausalLM(label_smoothing=0.3)
    composed = (a + 0.4 * b)(models, whole)
    torch.testing.assert_close(composed.total, a(models, whole).total + 0.4 * b(models, whole).total)
    assert composed.weight == whole.weight
