"""The loss before the first step: what nobody knows costs ln V."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bloomery.models import TaskConfig, beneath
from bloomery.models.heads import MultipleChoiceConfig, SequenceClassificationConfig, TokenClassificationConfig
from bloomery.nn.head import LinearHead, TiedHead
from bloomery.objectives import Models, Reading
from bloomery.train.doctor.patient import Finding, Patient, Verdict

WIDEST = 1.0
"""Nats above ln V from which an initialisation is worth a warning."""
CHECK = "initial loss"


@dataclass(frozen=True)
class Start:
    """What a figure starts at: its value and that in words, how far logits spread, and how far that of the token that is read may stand out."""

    value: float
    words: str
    spread: float = 1.0
    own: float = 0.0


def initial_loss(patient: Patient) -> Iterator[Finding]:
    """Whether the first loss is that of a model that knows nothing, or less where the weights come from a training.

        nll ≈ ln V + s²/2,   s² = mean ‖features‖² · var(W)

    of logits that are independent of the targets: ln V where they are all alike, and s²/2 more where they vary by s. Smoothing and z-loss do
    not enter: it is the plain negative log-likelihood that is looked at. Where the head is the embedding table, the logit of the token that is
    read stands out, by ‖features‖·‖row‖ at most, and the loss may be as much higher. Replaced-token detection starts at ln 2, a head of n
    classes at ln n.

    Source: the check: Karpathy (2019), "A Recipe for Training Neural Networks"; s²/2: the log-normal mean.
    """
    with torch.no_grad(), patient.autocast():
        _, figures = patient.reading(patient.copy(), patient.batch)
        starts = expected(patient)
    for name, start in starts.items():
        if name in figures:
            yield judged(patient, name, figures[name], start)
    if not starts.keys() & figures.keys():
        yield Finding(check=CHECK, verdict="pass", figure=f"{figures['loss']:.3f}", rule="no figure of the objective has a known start")


def judged(patient: Patient, name: str, found: float, start: Start) -> Finding:
    """What is to be said of one figure."""
    count = max(1.0, patient.objective.weights(patient.batch)[0])
    excess, slack = found - start.value, 0.1 + 4 * start.spread / math.sqrt(count)
    figure = f"{name} {found:.3f} on {count:.0f} places"
    if patient.weights == "trained":
        known = excess <= slack
        return Finding(
            check=CHECK, verdict="pass" if known else "fail", figure=figure,
            rule=f"trained weights know more than {start.words} = {start.value:.3f}",
            remedy="" if known else "The weights do not fit the tokenizer, or were damaged: take the tokenizer that they were trained with",
        )  # fmt: skip
    allowed = max(start.spread**2 / 2, start.own) + slack
    verdict: Verdict = "pass"
    remedy = ""
    if not math.isfinite(found) or excess > allowed:
        verdict, remedy = "fail", "The logits point away from the targets: check the head, and the shift of the targets"
    elif excess > WIDEST:
        verdict, remedy = "warn", "The first steps go into making logits smaller: lower the standard deviation of the embedding or the head"
    elif excess < -slack:
        verdict = "fail" if found < start.value / 2 else "warn"
        remedy = "Targets are known before anything is learnt: check the shift and the mask, or the weights are not fresh"
    rule = f"fresh weights should give {start.words} = {start.value:.3f}, and at most {allowed:.2f} more by the size of their logits"
    return Finding(check=CHECK, verdict=verdict, figure=figure, rule=rule, remedy=remedy)


def expected(patient: Patient) -> dict[str, Start]:
    """Figure → what it starts at."""
    found = {"detection": Start(math.log(2), "ln 2")}
    config = beneath(patient.config)
    if isinstance(config, TaskConfig):
        for head in config.heads:
            if head.name in patient.batch.labels and not patient.batch.labels[head.name].weight:
                continue  # none of the rows has labels for it
            if isinstance(head, SequenceClassificationConfig | TokenClassificationConfig):
                found[f"{head.name}/nll"] = Start(math.log(head.n_labels), f"ln {head.n_labels}")
            elif isinstance(head, MultipleChoiceConfig):
                found[f"{head.name}/nll"] = Start(math.log(head.n_choices), f"ln {head.n_choices}")
        if not config.language_head:
            return found
    return found | {"nll": of_tokens(patient)}


def of_tokens(patient: Patient) -> Start:
    """That of the loss of tokens: ln V; of heads that are no single matrix, what they say of features of 0."""
    batch, model = patient.batch, patient.model
    with torch.no_grad():
        features = Reading(Models(model), batch).features().float().flatten(0, 1)
    if isinstance(model.head, LinearHead):
        matrix, counted = model.head.matrix.detach().float(), model.head.scale * features[batch.loss_weight.flatten() > 0]
        spread = math.sqrt(float(counted.square().sum(1).mean() * matrix.var())) if len(counted) else 0.0
        own = float(counted.norm(dim=1).mean() * matrix.norm(dim=1).mean()) if isinstance(model.head, TiedHead) and len(counted) else 0.0
        return Start(math.log(len(matrix)), f"ln {len(matrix)}", spread, own)
    _, nll = model.head.cross_entropy(torch.zeros_like(features), batch.targets.flatten(), batch.loss_weight.flatten())
    return Start(float(nll) / (batch.weight or 1.0), f"what a {type(model.head).__name__} says of nothing")
