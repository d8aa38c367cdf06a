"""Losses of a policy: the formulas by the book, their gradients, what the papers prove of them, and what is refused."""

from dataclasses import replace

import pytest
import torch
from tests.contracts.objective_examples import TINY, WITH_VALUE, written

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch, Samples
from bloomery.data.tasks import NextToken
from bloomery.models import TaskConfig, TokenClassificationConfig
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import (
    CausalLM,
    Entropy,
    Models,
    OverBudget,
    OverSequences,
    OverTokens,
    PolicyGradient,
    Reading,
    ReferenceKL,
    ValueLoss,
)
from bloomery.objectives import told as told_module


def double() -> tuple[Models, Batch]:
    batch = written()
    samples = replace(batch.samples, **{
        name: value.double() for name, value in vars(batch.samples).items() if value is not None and value.is_floating_point()
    })  # fmt: skip
    models = Models(WITH_VALUE.build(seed=0).double())
    return models, replace(batch, loss_weight=batch.loss_weight.double(), samples=samples)


def logprobs_of(models: Models, batch: Batch, temperature=1.0):
    logprobs = torch.log_softmax(models.policy(batch.tokens, batch.layout) / temperature, -1)
    return logprobs, logprobs.gather(-1, batch.targets[..., None])[..., 0]


def texts(batch: Batch):
    """The drawn places of each row."""
    return [(row, places.nonzero().flatten().tolist()) for row, places in enumerate(batch.loss_weight > 0)]


def mean_over(over, batch: Batch, losses: list[list[torch.Tensor]]) -> torch.Tensor:
    """The mean of losses, text by text, as each of the papers writes it."""
    if isinstance(over, OverTokens):
        return torch.cat([torch.stack(one) for one in losses]).mean()
    if isinstance(over, OverBudget):
        return torch.stack([torch.stack(one).sum() / over.tokens for one in losses]).mean()
    return torch.stack([torch.stack(one).mean() for one in losses]).mean()


def same(models: Models, objective, by_hand: torch.Tensor, batch: Batch) -> None:
    (term,) = objective(models, batch)
    torch.testing.assert_close(term.total / term.weight, by_hand, rtol=1e-9, atol=1e-9)
    ours, theirs = (torch.autograd.grad(x, list(models.policy.parameters()), allow_unused=True) for x in (term.total / term.weight, by_hand))
    for a, b in zip(ours, theirs, strict=True):
        if a is not None or b is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("over", [OverTokens(), OverSequences(), OverBudget(tokens=7), OverBudget()], ids=str)
@pytest.mark.parametrize("clip", [None, (0.2, 0.2), (0.1, 0.5)])
def test_the_policys_loss_is_that_of_the_papers(over, clip):
    models, batch = double()
    _, logprobs = logprobs_of(models, batch, 0.8)
    losses = []
    for row, places in texts(batch):
        ratio = [(logprobs[row, t] - batch.samples.logprobs[row, t]).exp() for t in places]
        worth = [batch.samples.advantages[row, t] for t in places]
        held = [r if clip is None else r.clamp(1 - clip[0], 1 + clip[1]) for r in ratio]
        losses.append([torch.maximum(-a * r, -a * h) for a, r, h in zip(worth, ratio, held, strict=True)])
    same(models, PolicyGradient(over=over, clip=clip, temperature=0.8), mean_over(over, batch, losses), batch)


@pytest.mark.parametrize("mean", [False, True])
def test_ratios_can_be_of_whole_sequences(mean):
    models, batch = double()
    _, logprobs = logprobs_of(models, batch)
    losses = []
    for row, places in texts(batch):
        apart = torch.stack([logprobs[row, t] - batch.samples.logprobs[row, t] for t in places])
        ratio = (apart.mean() if mean else apart.sum()).exp()
        losses.append([-batch.samples.advantages[row, t] * ratio for t in places])
    objective = PolicyGradient(over=OverSequences(), clip=None, ratio="sequence_mean" if mean else "sequence")
    same(models, objective, mean_over(OverSequences(), batch, losses), batch)


@pytest.mark.parametrize("clip", [None, (0.2, 0.2)])
def test_on_its_own_rows_the_gradient_is_that_of_reinforce(clip):
    models, batch = double()
    _, logprobs = logprobs_of(models, batch)
    batch = replace(batch, samples=replace(batch.samples, logprobs=logprobs.detach() * batch.loss_weight))
    by_hand = -(batch.samples.advantages * logprobs).sum() / batch.loss_weight.sum()
    (term,) = PolicyGradient(clip=clip)(models, batch)
    parameters = [p for name, p in models.policy.named_parameters() if not name.startswith("heads.")]
    for a, b in zip(*(torch.autograd.grad(x, parameters) for x in (term.total / term.weight, by_hand)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    assert float(term.metrics["moved"]) == pytest.approx(0, abs=1e-9)


def test_a_mean_over_texts_of_groups_is_nothing_on_policy_and_yet_has_a_gradient():
    models, batch = double()
    _, logprobs = logprobs_of(models, batch)
    worth = torch.tensor([1.0, -1.0, 2.0, -3.0, 1.0]).double()[:, None] * batch.loss_weight
    batch = replace(batch, samples=replace(batch.samples, logprobs=logprobs.detach() * batch.loss_weight, advantages=worth))
    by_texts, by_tokens = (PolicyGradient(over=over)(models, batch)[0] for over in (OverSequences(), OverTokens()))
    assert float(by_texts.total.detach()) == pytest.approx(0, abs=1e-9)
    assert abs(float(by_tokens.total.detach() / by_tokens.weight)) > 0.1
    gradients = torch.autograd.grad(by_texts.total, list(models.policy.parameters()), allow_unused=True)
    assert any(g.abs().max() > 1e-3 for g in gradients if g is not None)


def test_entropy_is_that_of_the_softened_distribution():
    models, batch = double()
    logprobs, _ = logprobs_of(models, batch, 0.7)
    entropies = -(logprobs.exp() * logprobs).sum(-1)
    losses = [[-entropies[row, t] for t in places] for row, places in texts(batch)]
    same(models, Entropy(temperature=0.7), mean_over(OverTokens(), batch, losses), batch)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_the_values_loss_is_that_of_ppo(clip):
    models, batch = double()
    values = models.policy.scores(batch.tokens, batch.layout)["value"][:, :, 0]
    old, returns, losses = batch.samples.values, batch.samples.returns, []
    for row, places in texts(batch):
        one = []
        for t in places:
            error = (values[row, t] - returns[row, t]) ** 2
            held = values[row, t] if clip is None else torch.clamp(values[row, t], old[row, t] - clip, old[row, t] + clip)
            one.append(0.5 * torch.maximum(error, (held - returns[row, t]) ** 2))
        losses.append(one)
    same(models, ValueLoss(clip=clip), mean_over(OverTokens(), batch, losses), batch)


def expectations(estimator: str):
    """One place, a policy θ over six tokens, a reference: Σ π·estimate, Σ π·∇estimate, and KL and its gradients both ways, all exact."""
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(6, dtype=torch.float64, generator=generator, requires_grad=True)
    reference = torch.log_softmax(torch.randn(6, dtype=torch.float64, generator=generator), -1)
    log_pi = torch.log_softmax(theta, -1)
    objective = ReferenceKL(estimator=estimator)

    class Tells(Reading):
        def told(self, temperature=1.0):
            return told_module.Told(torch.log_softmax(theta, -1).view(6, 1), torch.zeros(6, 1))

    one, rows = torch.ones(6, 1, dtype=torch.float64), torch.arange(6)
    samples = Samples(log_pi.detach().view(6, 1), rows, rows, reference=reference.view(6, 1))
    batch = Batch(one.long(), one.long(), one, SequenceLayout.rows(6, 1), samples=samples)
    losses, _ = objective.losses(Tells(Models(TINY.build(0)), batch), samples)
    pi = log_pi.exp().detach()
    estimate = (pi * losses[:, 0]).sum()
    forward, reverse = (reference.exp() * (reference - log_pi)).sum(), (log_pi.exp() * (log_pi - reference)).sum()
    gradients = [torch.autograd.grad(x, theta, retain_graph=True)[0] for x in (estimate, forward, reverse)]
    return estimate.item(), reverse.item(), *gradients


def test_what_the_estimators_of_the_divergence_are_and_where_they_push():
    for estimator in ("k1", "k2", "k3"):
        estimate, divergence, gradient, of_forward, of_reverse = expectations(estimator)
        pushes = {"k1": torch.zeros(6).double(), "k2": of_reverse, "k3": of_forward}[estimator]
        torch.testing.assert_close(gradient, pushes, rtol=1e-9, atol=1e-9)
        if estimator != "k2":
            assert estimate == pytest.approx(divergence, abs=1e-12)


def test_targets_are_told_chunk_by_chunk_as_at_once(monkeypatch):
    models, batch = double()
    objective = PolicyGradient() + 0.1 * Entropy()
    whole = objective(models, batch)
    monkeypatch.setattr(told_module, "places_per_chunk", lambda *_: 4)
    parts = objective(models, batch)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a.total, b.total, rtol=1e-10, atol=1e-10)
    totals, parameters = [sum(one.total for one in terms) for terms in (whole, parts)], list(models.policy.parameters())
    ours, theirs = (torch.autograd.grad(total, parameters, allow_unused=True) for total in totals)
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_terms_share_one_pass_and_one_telling():
    models, calls = Models(WITH_VALUE.build(seed=0)), []
    models.policy.base.embedding.register_forward_hook(lambda *_: calls.append("pass"))
    models.policy.head.register_forward_hook(lambda _, inputs, __: calls.append("logits") if len(inputs[0]) > 1 else None)
    (PolicyGradient() + 0.1 * ValueLoss() + 0.01 * Entropy() + 0.1 * ReferenceKL())(models, written())
    assert calls == ["pass", "logits"]


def test_a_head_for_values_is_asked_for():
    with pytest.raises(ConfigError, match="no head for values"):
        ValueLoss().check_training(TINY, NextToken())
    other = TaskConfig(base=TINY, language_head=True, heads=(TokenClassificationConfig(name="value", n_labels=2),))
    with pytest.raises(ConfigError, match="no head for values"):
        ValueLoss().check_training(other, NextToken())
    ValueLoss().check_training(WITH_VALUE, NextToken())


def test_a_combination_needs_what_its_terms_need():
    assert (CausalLM() + PolicyGradient() + ReferenceKL()).needs == {"advantages", "reference"}
    assert not CausalLM().needs
    assert ValueLoss().needs == {"returns", "values"}
