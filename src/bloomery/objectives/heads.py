"""Losses of heads on what a batch is labelled with. Several of them, each with a head of its own, make multi-task learning.

    HeadCrossEntropy(head="order") + 0.5 * HeadSquaredError(head="stars") + CausalLM()

Source: several tasks on one encoder: Liu et al. (2019), MT-DNN, arXiv 1901.11504, section 3; departure: tasks may share a batch, and each
counts by its own labels.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch, Labels
from bloomery.data.tasks import RowTask
from bloomery.models import ModelConfig, TaskConfig
from bloomery.models.ensemble import heads_by_name
from bloomery.models.heads import (
    MultipleChoiceConfig,
    RegressionConfig,
    SequenceClassificationConfig,
    TaskHeadConfig,
    TokenClassificationConfig,
)
from bloomery.nn.cross_entropy import exactly
from bloomery.objectives.objective import Objective, Reading, Total


class HeadLoss(Objective):
    """What losses of heads have in common: they read the scores of one head where its labels have weight."""

    looks_inside: ClassVar[bool] = True
    fitting: ClassVar[tuple[type[TaskHeadConfig], ...]]
    """Heads that it is a loss of."""

    head: str
    """The head, and the labels, that it is about."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        heads = heads_by_name(model)
        if not isinstance(heads.get(self.head), self.fitting):
            found = f"a {heads[self.head].kind()}" if self.head in heads else f"not among the heads of its {model.kind()}"
            remedy = f"give a TaskConfig a {self.fitting[0].kind()}(name={self.head!r})"
            raise ConfigError(f"{self.kind()}.head={self.head!r} is {found}; {remedy}")
        if self.head not in task.labelled:
            raise ConfigError(f"{self.kind()}.head={self.head!r} has no labels under {task.kind()}; take a task that gives them, "
                              f"as SentenceOrder(head={self.head!r})")  # fmt: skip

    def weight(self, batch: Batch) -> float:
        return batch.labels[self.head].weight

    def total(self, reading: Reading) -> Total:
        labels, scores = reading.batch.labels[self.head], reading.scores(self.head)
        losses, metrics = self.losses(exactly(scores), labels, reading.batch)
        return (labels.loss_weight * losses).sum(), {name: (labels.loss_weight * value).sum() for name, value in metrics.items()}

    def losses(self, scores: Float[Tensor, "batch time n_scores"], labels: Labels, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(batch, time) of the loss, differentiable, and of metrics, detached."""
        raise NotImplementedError


class HeadCrossEntropy(HeadLoss):
    """Σ w·(−log softmax(scores)[label]): of documents, of tokens, or of the choice among documents.

    Metrics: `<head>/nll`, and `<head>/right`, the share of labels whose score is the highest.
    """

    fitting: ClassVar[tuple[type[TaskHeadConfig], ...]] = (SequenceClassificationConfig, TokenClassificationConfig, MultipleChoiceConfig)

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the label's probability that is spread evenly over the classes."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        super().check_training(model, task)
        assert isinstance(model, TaskConfig)
        if self.label_smoothing and any(isinstance(head, MultipleChoiceConfig) for head in model.heads if head.name == self.head):
            raise self.refuse("label_smoothing", f"spreads over choices of {self.head!r} that a question may not have; set it to 0")

    def losses(self, scores: Float[Tensor, "batch time n_scores"], labels: Labels, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        rows, targets = scores.flatten(0, 1), labels.targets.flatten()
        losses = F.cross_entropy(rows, targets, reduction="none", label_smoothing=self.label_smoothing).view_as(labels.loss_weight)
        with torch.no_grad():
            nll = F.cross_entropy(rows, targets, reduction="none").view_as(labels.loss_weight)
        return losses, {f"{self.head}/nll": nll, f"{self.head}/right": (scores.argmax(-1) == labels.targets).float()}


class HeadSquaredError(HeadLoss):
    """Σ w·(score − label)²: of a number for each document, such as how alike the two parts of it are.

    Metric: `<head>/squared_error`.
    """

    fitting: ClassVar[tuple[type[TaskHeadConfig], ...]] = (RegressionConfig,)

    def losses(self, scores: Float[Tensor, "batch time n_scores"], labels: Labels, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = (scores[:, :, 0] - labels.targets.float()).square()
        return losses, {f"{self.head}/squared_error": losses.detach()}
