"""What every objective keeps, newcomers included."""

from dataclasses import replace

import pytest
import torch
from tests.contracts.objective_examples import TINY, example, uneven

from bloomery.data.batch import Labels
from bloomery.objectives import (
    CausalLM,
    DirectLoss,
    FromTeacher,
    HeadLoss,
    InsideTeacher,
    Models,
    Objective,
    OfSamples,
    PairLoss,
    Penalty,
    RankingLoss,
    VectorLoss,
)


def everything(kind):
    return [kind, *(found for child in kind.__subclasses__() for found in everything(child))]


def silenced(batch):
    """The batch with nothing to learn."""
    labels = {name: Labels(one.targets, torch.zeros_like(one.loss_weight)) for name, one in batch.labels.items()}
    return replace(batch, loss_weight=torch.zeros_like(batch.loss_weight), labels=labels)


UNFINISHED = (DirectLoss, FromTeacher, HeadLoss, InsideTeacher, OfSamples, PairLoss, Penalty, RankingLoss, VectorLoss)


@pytest.mark.parametrize("kind", [kind for kind in everything(Objective)[1:] if kind.__module__.startswith("bloomery.")
                                  and kind not in UNFINISHED], ids=lambda kind: kind.__name__)  # fmt: skip
class TestEveryObjective:
    def test_totals_weights_and_metrics_of_parts_add_up_to_the_whole(self, kind):
        given = example(kind)
        models, whole = given.models(), given.batch()
        models.policy.eval()
        once, parts = given.objective(models, whole), [given.objective(models, part) for part in whole.split(2)]
        assert len(parts) > 1
        for term, total in enumerate(once):
            torch.testing.assert_close(sum(p[term].total for p in parts), total.total, rtol=1e-5, atol=1e-5)
            assert sum(p[term].weight for p in parts) == pytest.approx(total.weight)
            for name, value in total.metrics.items():
                torch.testing.assert_close(sum(p[term].metrics[name] for p in parts), value, rtol=1e-5, atol=1e-5)
                assert not value.requires_grad

    def test_there_are_weights_for_all_terms_and_something_to_learn(self, kind):
        given = example(kind)
        weights = given.objective.weights(given.batch())
        assert len(weights) == len(given.objective(given.models(), given.batch()))
        assert all(weight > 0 for weight in weights)
        assert bool(weights) == given.objective.reads_rows

    def test_a_term_of_no_weight_has_no_gradient(self, kind):
        given = example(kind)
        models, silent = given.models(), silenced(given.batch())
        for term in given.objective(models, silent):
            if term.weight == 0:
                assert not any(g is not None and g.any() for g in torch.autograd.grad(
                    term.total, list(models.policy.parameters()), allow_unused=True, retain_graph=True))  # fmt: skip


def test_composition_weighs_its_terms():
    models, whole = Models(TINY.build(seed=0)), uneven()
    a, b = CausalLM(), CausalLM(label_smoothing=0.3)
    first, second = (a + 0.4 * b)(models, whole)
    torch.testing.assert_close(first.total, a(models, whole)[0].total)
    torch.testing.assert_close(second.total, 0.4 * b(models, whole)[0].total)
    assert first.weight == second.weight == whole.weight


def test_the_terms_of_a_combination_share_one_forward_pass():
    model, calls = TINY.build(seed=0), []
    model.embedding.register_forward_hook(lambda *_: calls.append(1))
    (CausalLM() + 0.4 * CausalLM(z_loss=0.1) + 0.1 * CausalLM())(Models(model), uneven())
    assert len(calls) == 1


def test_factors_multiply_through_nested_sums():
    twice = 2.0 * (CausalLM() + 0.5 * CausalLM(z_loss=0.1))
    assert [factor for factor, _ in twice.terms] == [2.0, 1.0]
