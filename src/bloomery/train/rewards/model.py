"""`Scored`: what a reward model says of an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bloomery.core.errors import ConfigError
from bloomery.models import TaskModel
from bloomery.nn import SequenceLayout
from bloomery.objectives import Frozen, Models
from bloomery.train.rewards.reward import Answer, Reward

READ_AT_ONCE = 64


class Scored(Reward):
    """What a head of a model says of prompt and answer together, read as one document: a reward model that has learnt from pairs
    (`BradleyTerry`). It must read the policy's ids.

    Source: Ouyang et al. (2022), arXiv 2203.02155, section 3.5.
    """

    by: Frozen
    """The reward model."""
    head: str = "reward"
    """Its head that gives a number for a document."""

    def frozen(self) -> tuple[Frozen, ...]:
        return (self.by,)

    @torch.no_grad()
    def scores(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        model = models.of(self.by)
        if not isinstance(model, TaskModel) or self.head not in model.heads:
            raise ConfigError(f"Scored.head={self.head!r} is none of the heads of {self.by.address}; name one that it was trained with")
        found: list[float] = []
        for start in range(0, len(answers), READ_AT_ONCE):
            ids = [list(answer.ids) for answer in answers[start : start + READ_AT_ONCE]]
            longest = max(map(len, ids))
            tokens = torch.tensor([one + [0] * (longest - len(one)) for one in ids], device=model.device)
            segments = (torch.arange(longest) < torch.tensor(list(map(len, ids)))[:, None]).long()
            told = model.scores(tokens, SequenceLayout.packed(segments).to(model.device))
            found += told[self.head][:, 0, 0].float().tolist()
        return found
