"""`Stepwise`: what a model says of the steps of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from bloomery.core.errors import ConfigError
from bloomery.data.steps import step_ends
from bloomery.models import TaskModel
from bloomery.objectives import Frozen, Models
from bloomery.train.rewards.model import batches
from bloomery.train.rewards.reward import Answer, Reward


class Stepwise(Reward):
    """From how likely a head holds each step of an answer to be right, what the answer is worth; an answer without steps is worth 0.

    Source: Lightman et al. (2023), arXiv 2305.20050, section 2.6, who take the product; the least, and each step paid where it ends: Wang et
    al. (2023), arXiv 2312.08935, sections 3.3 and 3.4.
    """

    by: Frozen
    """A model that has learnt from `Steps()`."""
    head: str = "step"
    """Its head, which tells wrong steps (0) from right ones (1)."""
    separator: str = Field(default="\n", min_length=1)
    """Between steps."""
    worth: Literal["least", "product", "mean", "last", "each"] = "least"
    """Of the probabilities: the least, since an answer is as good as its worst step; their product or mean; or that of the last step, in
    which the answer is. "each" has every step earn its own where it ends, and the answer their sum: for `GAE()` and `StepRelative()`, which
    credit what comes after; of two answers the one of more steps earns more."""

    def frozen(self) -> tuple[Frozen, ...]:
        return (self.by,)

    def scores(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        return [self.of_steps(list(steps.values())) for steps in self.steps(answers, models)]

    def placed(self, answers: Sequence[Answer], models: Models) -> Sequence[Mapping[int, float]] | None:
        return self.steps(answers, models) if self.worth == "each" else None

    @torch.no_grad()
    def steps(self, answers: Sequence[Answer], models: Models) -> list[dict[int, float]]:
        """Of each answer: number of the token with which a step ends → how likely the step is right."""
        model = models.of(self.by)
        if not isinstance(model, TaskModel) or self.head not in model.heads:
            raise ConfigError(f"Stepwise.head={self.head!r} is none of the heads of {self.by.address}; name one that it was trained with")
        found: list[dict[int, float]] = []
        for batch in batches(answers):
            told = model.scores(batch.tokens.to(model.device), batch.layout.to(model.device))[self.head]
            right = torch.softmax(told.double(), -1)[..., 1].tolist()
            for answer, row in zip(answers[len(found) : len(found) + len(right)], right, strict=True):
                found.append({end: row[answer.begins + end] for end in step_ends(answer.text, self.separator, answer.sizes)})
        return found

    def of_steps(self, right: Sequence[float]) -> float:
        """What probabilities of steps come to."""
        ways = {"least": np.min, "product": np.prod, "mean": np.mean, "last": lambda steps: steps[-1], "each": np.sum}
        return float(ways[self.worth](right)) if right else 0.0
