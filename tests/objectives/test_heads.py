"""Losses of heads, alone and beside each other."""

import pytest
import torch
from tests.contracts.objective_examples import ENCODER, HEADS, labelled
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.data.tasks import MaskedTokens, SentenceOrder
from bloomery.models import MultipleChoiceConfig, SequenceClassificationConfig, TaskConfig
from bloomery.objectives import CausalLM, HeadCrossEntropy, HeadSquaredError, Models


@pytest.fixture
def model():
    return HEADS.build(seed=0).eval()


@pytest.mark.parametrize(("head", "smoothing"), [("mood", 0.0), ("mood", 0.2), ("kind", 0.0), ("kind", 0.2), ("answer", 0.0)])
def test_cross_entropy_is_torchs_over_the_places_that_have_labels(model, head, smoothing):
    batch = labelled()
    (term,) = HeadCrossEntropy(head=head, label_smoothing=smoothing)(Models(model), batch)
    labels, scores = batch.labels[head], model.scores(batch.tokens, batch.layout)[head]
    here = labels.loss_weight > 0
    torch.testing.assert_close(term.total, F.cross_entropy(scores[here], labels.targets[here], reduction="sum", label_smoothing=smoothing))
    assert term.weight == here.sum()
    assert term.metrics[f"{head}/right"] == (scores[here].argmax(-1) == labels.targets[here]).sum()


def test_squared_error_is_torchs_by_weight(model):
    batch = labelled()
    (term,) = HeadSquaredError(head="stars")(Models(model), batch)
    labels, scores = batch.labels["stars"], model.scores(batch.tokens, batch.layout)["stars"]
    here = labels.loss_weight > 0
    torch.testing.assert_close(term.total, 0.5 * F.mse_loss(scores[here][:, 0], labels.targets[here], reduction="sum"))


def test_several_tasks_learn_from_one_pass_each_by_its_own_labels(model):
    batch, calls = labelled(), []
    model.base.embedding.register_forward_hook(lambda *_: calls.append(1))
    model.heads["mood"].register_forward_hook(lambda *_: calls.append(1))
    objective = CausalLM() + HeadCrossEntropy(head="mood") + 0.5 * HeadCrossEntropy(head="kind") + HeadSquaredError(head="stars")
    terms = objective(Models(model), batch)
    assert len(calls) == 2
    assert [term.weight for term in terms] == [batch.weight, *(batch.labels[name].weight for name in ("mood", "kind", "stars"))]
    (alone,) = HeadCrossEntropy(head="kind")(Models(model), batch)
    torch.testing.assert_close(terms[2].total, 0.5 * alone.total)


def test_heads_labels_and_tasks_that_do_not_fit_are_refused():
    ordered = TaskConfig(base=ENCODER, heads=(SequenceClassificationConfig(name="order", n_labels=2),))
    chosen = TaskConfig(base=ENCODER, heads=(MultipleChoiceConfig(name="order"),))
    HeadCrossEntropy(head="order").check_training(ordered, SentenceOrder())
    for objective, model, task, message in (
        (HeadCrossEntropy(head="mood"), ordered, SentenceOrder(), r"'mood' is not among the heads of its TaskConfig; give a TaskConfig a Seq"),
        (HeadCrossEntropy(head="order"), ENCODER, SentenceOrder(), r"not among the heads of its BertConfig"),
        (HeadSquaredError(head="order"), ordered, SentenceOrder(), r"is a SequenceClassificationConfig; give a TaskConfig a RegressionConfig"),
        (HeadCrossEntropy(head="order"), ordered, MaskedTokens(), r"has no labels under MaskedTokens"),
        (HeadCrossEntropy(head="order", label_smoothing=0.1), chosen, SentenceOrder(), r"choices of 'order' that a question may not have"),
        (CausalLM(), ordered, SentenceOrder(), r"language_head=False; set it to True"),
        (CausalLM() + HeadCrossEntropy(head="order"), ordered, SentenceOrder(), r"language_head=False"),
    ):
        with pytest.raises(ConfigError, match=message):
            objective.check_training(model, task)
