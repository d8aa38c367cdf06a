"""The diagonal of the Fisher information: how much each weight of a model matters to what it says, example by example.

    F = 1/W · Σ over examples, Σ over their places t:  w_t · E[(∂ log p(y_t | what the model sees) / ∂θ)²],   W = Σ w_t

An example is a row. Its gradient is squared by itself: the square of a batch's mean gradient is another, far smaller number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.errors import DataError
from bloomery.core.rng import derive_seed
from bloomery.data.batch import Batch
from bloomery.models import Model
from bloomery.objectives.replaced import samples

Squares = dict[str, Tensor]


class FisherEstimator(Config):
    """Over which y the square is taken."""

    @abstractmethod
    def squares(self, model: Model, row: Batch, seed: int, add: Callable[[Iterable[Tensor | None], float], None]) -> None:
        """Tells the gradients of one example that are to be squared, each with the weight of its square.

        Args:
            model: whose information it is.
            row: one row.
            seed: of what is drawn for it.
            add: is told gradients, in the order of the model's parameters, and their weight.
        """


class Exact(FisherEstimator):
    """Over all y, each by its probability under the model: a backward pass for each place and each token of the vocabulary."""

    def squares(self, model: Model, row: Batch, seed: int, add: Callable[[Iterable[Tensor | None], float], None]) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        weights, logp = _learnt(model, row)
        for weight, outcomes in zip(weights.tolist(), logp, strict=True):  # of a place, over the vocabulary
            for number, probability in enumerate(outcomes.detach().exp().tolist()):
                add(torch.autograd.grad(outcomes[number], parameters, retain_graph=True, allow_unused=True), weight * probability)


class Sampled(FisherEstimator):
    """Over y drawn from the model, a token at each place: one backward pass for each drawing of a whole row. What is drawn at different places
    is independent, and the gradients of log p are 0 on average, so that the square of their sum is the sum of their squares on average."""

    draws: Annotated[int, Ge(1)] = 1
    """How often a row is drawn."""

    def squares(self, model: Model, row: Batch, seed: int, add: Callable[[Iterable[Tensor | None], float], None]) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        features, kept = _features(model, row)
        weights = row.loss_weight[kept]
        for draw in range(self.draws):
            generator = torch.Generator().manual_seed(derive_seed(seed, "fisher", row.first_row, draw))
            uniform = torch.rand(len(features), generator=generator).to(features.device)
            drawn = samples(model.head, features.detach(), uniform)
            total, _ = model.head.cross_entropy(features, drawn, weights.sqrt())
            add(torch.autograd.grad(total, parameters, retain_graph=draw + 1 < self.draws, allow_unused=True), 1 / self.draws)


class Empirical(FisherEstimator):
    """At the y that stand in the text: one backward pass for each row. No estimate of F: it does not vanish where the model is sure and right
    by chance only, and it has the products of different places in it.

    Source of the warning: Kunstner et al. (2019), arXiv 1905.12558.
    """

    def squares(self, model: Model, row: Batch, seed: int, add: Callable[[Iterable[Tensor | None], float], None]) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        features, kept = _features(model, row)
        total, _ = model.head.cross_entropy(features, row.targets[kept], row.loss_weight[kept])
        add(torch.autograd.grad(total, parameters, allow_unused=True), 1.0)


def fisher(model: Model, batches: Iterable[Batch], estimator: FisherEstimator, seed: int = 0) -> tuple[Squares, float]:
    """F of all parameters that take gradients, by name, per unit of weight; and the weight of what it was measured on.

    Rows of no weight say nothing. However the rows are cut into batches, F is the same.

    Args:
        model: on the device of the batches.
        batches: the examples, as rows.
        estimator: `Exact()`, `Sampled()` or `Empirical()`.
        seed: of what is drawn.

    Raises:
        DataError: nothing in the rows counts.

    Source: Kirkpatrick et al. (2017), arXiv 1612.00796; the estimators: van de Ven (2025), arXiv 2502.11756.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for name, p in named.items()}

    def add(gradients: Iterable[Tensor | None], weight: float) -> None:
        for total, gradient in zip(sums.values(), gradients, strict=True):
            if gradient is not None:
                total.addcmul_(gradient, gradient, value=weight)

    weight, was_training = 0.0, model.training
    model.eval()
    for row in (row for batch in batches for row in batch.split(1) if row.weight):
        estimator.squares(model, row, seed, add)
        weight += row.weight
    model.train(was_training)
    if not weight:
        raise DataError("no row of the corpus has anything to be learnt, so that no weight matters to it; take another corpus")
    return {name: total / weight for name, total in sums.items()}, weight


def _features(model: Model, row: Batch) -> tuple[Tensor, Tensor]:
    """What the head reads at the places that count, and where they are: (n, d_features), (1, time)."""
    kept = row.loss_weight > 0
    return model.features(row.tokens, row.layout, passage=row.passage)[kept], kept


def _learnt(model: Model, row: Batch) -> tuple[Tensor, Tensor]:
    """The weights of the places that count, and the log-probabilities there."""
    features, kept = _features(model, row)
    return row.loss_weight[kept], model.head(features).float().log_softmax(-1)
