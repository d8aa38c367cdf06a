"""Distillation: the formulas by the book, no gradient to teachers, no whole tensors of logits, and several teachers."""

from math import log

import pytest
import torch
from tests.contracts.objective_examples import TINY, Old, packed, uneven
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bloomery.core.errors import ConfigError
from bloomery.data.tasks import NextToken
from bloomery.nn.chunked import chunked_sum
from bloomery.objectives import (
    CausalLM,
    Distil,
    DistilAttention,
    DistilHidden,
    DistilSimilarity,
    ForwardKL,
    JensenShannon,
    Models,
    Objective,
    Reading,
    ReverseKL,
)

TEACHER = Old(seed=1)


def models_of(objective: Objective) -> Models:
    olds = [one for one in objective.frozen() if isinstance(one, Old)]
    frozen = {one.address: one.model.build(one.seed).requires_grad_(requires_grad=False).eval() for one in olds}
    return Models(TINY.build(seed=0), frozen)


def logits_of(models: Models, batch):
    student, teacher = models.policy(batch.tokens, batch.layout), next(iter(models.frozen.values()))(batch.tokens, batch.layout)
    return student.flatten(0, 1), teacher.flatten(0, 1)


def gkd(student, teacher, beta, temperature):
    """The generalised Jensen–Shannon divergence of each place, as trl's `GKDTrainer` has it."""
    student, teacher = (F.log_softmax(x / temperature, -1) for x in (student, teacher))
    if beta == 0:
        return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    if beta == 1:
        return F.kl_div(teacher, student, reduction="none", log_target=True).sum(-1)
    mixed = torch.logsumexp(torch.stack([student + log(1 - beta), teacher + log(beta)]), 0)
    both = (F.kl_div(mixed, x, reduction="none", log_target=True).sum(-1) for x in (teacher, student))
    return sum(share * one for share, one in zip((beta, 1 - beta), both, strict=True))


@pytest.mark.parametrize(("divergence", "beta"), [(ForwardKL(), 0), (ReverseKL(), 1), (JensenShannon(beta=0.3), 0.3)], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_loss_and_gradients_are_those_of_the_formula(divergence, beta, temperature):
    objective = Distil(teacher=TEACHER, divergence=divergence, temperature=temperature)
    models, batch = models_of(objective), uneven()
    for model in (models.policy, models.of(TEACHER)):
        model.double()
    (term,) = objective(models, batch)
    by_hand = temperature**2 * torch.dot(batch.loss_weight.flatten().double(), gkd(*logits_of(models, batch), beta, temperature))
    torch.testing.assert_close(term.total, by_hand, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(term.metrics["distilled"] * temperature**2, by_hand.detach(), rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad(x / term.weight, list(models.policy.parameters())) for x in (term.total, by_hand))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_formula_is_trls():
    trl = pytest.importorskip("trl", reason="trl is not installed; the literal formula is tested above")
    student, teacher = torch.randn(2, 1, 5, 9)
    for beta in (0.0, 0.3, 1.0):
        theirs = trl.GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, temperature=2.0, reduction="sum")
        torch.testing.assert_close(gkd(student[0], teacher[0], beta, 2.0).sum(), theirs)


def test_the_square_of_the_temperature_keeps_gradients_at_their_size():
    batch, sizes = uneven(), {}
    for temperature in (1.0, 4.0):
        objective = Distil(teacher=TEACHER, temperature=temperature)
        models = models_of(objective)
        (term,) = objective(models, batch)
        gradients = torch.autograd.grad(term.total, list(models.policy.parameters()))
        sizes[temperature] = sum(g.square().sum() for g in gradients).sqrt().item()
    assert 0.4 < sizes[4.0] / sizes[1.0] < 2.5  # without it, a sixteenth of that


def test_chunks_change_nothing():
    features, matrix = torch.randn(300, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    weights = torch.rand(300)

    def loss(x, part):
        return torch.dot(weights[part], torch.log_softmax(x @ matrix.T, -1)[:, 3].exp())

    whole, parts = loss(features, slice(0, 300)), chunked_sum(loss, features, [matrix], 11, chunk_numbers=700)
    torch.testing.assert_close(parts, whole)
    for a, b in zip(torch.autograd.grad(2 * parts, [features, matrix]), torch.autograd.grad(2 * whole, [features, matrix]), strict=True):
        torch.testing.assert_close(a, b)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that anything gives."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.numbers = max(self.numbers, found.numel())
        return found


def test_all_logits_are_never_there_at_once():
    wide = TINY.replace(vocab_size=4096)
    objective, batch = Distil(teacher=Old(model=wide), places="all"), uneven(rows=50)
    models = Models(wide.build(seed=0), {objective.teacher.address: wide.build(seed=1).requires_grad_(requires_grad=False)})
    with Largest() as largest:
        objective(models, batch)[0].total.backward()
    assert largest.numbers < 600 * 4096 / 2


def test_several_teachers_pull_as_one_with_the_mean_of_their_distributions():
    one, other, batch = Old(seed=1), Old(seed=2), uneven()
    both = 0.7 * Distil(teacher=one) + 0.3 * Distil(teacher=other)
    models = models_of(both)
    total = sum(term.total for term in both(models, batch))
    student = models.policy(batch.tokens, batch.layout).log_softmax(-1)
    mean = sum(share * models.of(who)(batch.tokens, batch.layout).softmax(-1) for share, who in ((0.7, one), (0.3, other)))
    by_hand = (batch.loss_weight * (mean * (mean.log() - student)).sum(-1)).sum()
    for a, b in zip(*(torch.autograd.grad(x, list(models.policy.parameters())) for x in (total, by_hand)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_teacher_is_asked_once_and_learns_nothing():
    objective = CausalLM() + Distil(teacher=TEACHER) + DistilHidden(teacher=TEACHER)
    models, calls = models_of(objective), []
    teacher = models.of(TEACHER)
    teacher.embedding.register_forward_hook(lambda *_: calls.append(1))
    sum(term.total for term in objective(models, uneven())).backward()
    assert len(calls) == 1
    assert all(p.grad is None for p in teacher.parameters())


def test_all_places_are_compared_where_that_is_asked():
    objective, batch = Distil(teacher=TEACHER, places="all"), packed()
    models = models_of(objective)
    (term,) = objective(models, batch)
    real = (batch.layout.segments > 0).flatten()
    torch.testing.assert_close(term.total, gkd(*logits_of(models, batch), 0, 1.0)[real].sum(), rtol=1e-5, atol=1e-5)
    assert term.weight == real.sum()


def test_of_itself_a_model_learns_nothing():
    itself = Old(seed=0)
    for objective in (Distil(teacher=itself), DistilHidden(teacher=itself), DistilHidden(teacher=itself, distance="cosine"),
                      DistilSimilarity(teacher=itself), DistilAttention(teacher=itself)):  # fmt: skip
        (term,) = objective(models_of(objective), packed())
        assert abs(term.total.item()) < 1e-4, objective


def test_states_are_compared_behind_layers():
    objective, batch = DistilHidden(teacher=TEACHER, layers=((0, 1),)), uneven()
    models = models_of(objective)
    (term,) = objective(models, batch)
    readings = [Reading(Models(model), batch, looks_inside=True) for model in (models.policy, models.of(TEACHER))]
    ours, theirs = (reading.seen().hidden[layer] for reading, layer in zip(readings, (1, 2), strict=True))
    torch.testing.assert_close(term.total, (ours - theirs).square().mean(-1).sum())


def test_likeness_is_that_within_documents_and_asks_for_no_width():
    wide = Old(model=TINY.replace(d_model=24))
    objective, batch = DistilSimilarity(teacher=wide), packed()
    models = models_of(objective)
    (term,) = objective(models, batch)
    by_hand = 0.0
    readings = [Reading(Models(model), batch, looks_inside=True) for model in (models.policy, models.of(wide))]
    states = [reading.seen().hidden[-1] for reading in readings]
    for row in range(5):
        for document in {int(s) for s in batch.layout.segments[row]} - {0}:
            at = batch.layout.segments[row] == document
            a, b = (F.normalize(h[row, at] @ h[row, at].T, dim=-1) for h in states)
            by_hand += (a - b).square().sum() / at.sum()
    torch.testing.assert_close(term.total, by_hand, rtol=1e-4, atol=1e-5)


def test_attention_is_compared_by_its_weights():
    objective, batch = DistilAttention(teacher=TEACHER, layers=((0, 0),)), uneven()
    models = models_of(objective)
    (term,) = objective(models, batch)

    def weights(model):
        block, x = model.blocks[0], model.embed(batch.tokens, batch.layout)
        queries, keys, _ = block.mixer.heads(block.mixer_norm(x), batch.layout)
        scores = torch.einsum("bqhd,bkhd->bhqk", queries, keys) / queries.shape[-1] ** 0.5
        return scores.masked_fill(~torch.ones(12, 12).tril().bool(), -torch.inf).softmax(-1)

    theirs, ours = weights(models.of(TEACHER)), weights(models.policy)
    by_hand = torch.xlogy(theirs, theirs / ours.clamp(min=1e-30)).sum(-1).mean(1).sum()
    torch.testing.assert_close(term.total, by_hand, rtol=1e-4, atol=1e-5)
    assert any(g is not None and g.any() for g in torch.autograd.grad(term.total, list(models.policy.parameters()), allow_unused=True))


@pytest.mark.parametrize(("objective", "message"), [
    (Distil(teacher=Old(model=TINY.replace(vocab_size=40))), "vocab_size=40, and the model's is 32; the same ids must mean the same"),
    (DistilHidden(teacher=Old(model=TINY.replace(d_model=24))), "d_model=24, and the model 16; take DistilSimilarity"),
    (DistilHidden(teacher=TEACHER, layers=((0, 2),)), "names layer 2 of the teacher, which has 2"),
], ids=["vocabulary", "width", "layers"])  # fmt: skip
def test_what_cannot_be_compared_is_refused(objective, message):
    with pytest.raises(ConfigError, match=message):
        (CausalLM() + objective).check_training(TINY, NextToken())
