"""`Scored`: what a reward model says of an answer; `Likelier`: what a policy says of it that has learnt which answers are preferred."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Gt

from bloomery.core.errors import ConfigError
from bloomery.data import Batch
from bloomery.models import TaskModel
from bloomery.nn import SequenceLayout
from bloomery.objectives import Frozen, Models, Reading
from bloomery.train.rewards.reward import Answer, Reward

READ_AT_ONCE = 64


class Judging(Reward):
    """What rewards that a model gives have in common. Subclasses write `raw`."""

    shape: Literal["plain", "log_sigmoid", "sigmoid"] = "plain"
    """What is made of the number r that the model says: r itself; or log σ(r), which falls as r does and hardly rises where r says good
    already, so that little is to be had where such models are pleased by mistake; or σ(r), to which it is all one how bad the bad ones are as
    well: between 0 and 1, as a truth is. See Wang et al. (2024), arXiv 2402.00742, section 3, and Fu et al. (2025), arXiv 2502.18770; both
    with r_ref = 0."""

    @abstractmethod
    def raw(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        """r of each answer."""

    def scores(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        found = self.raw(answers, models)
        if self.shape == "plain":
            return found
        logs = -np.logaddexp(0.0, -np.asarray(found, np.float64))
        return (logs if self.shape == "log_sigmoid" else np.exp(logs)).tolist()


class Scored(Judging):
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
    def raw(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        model = models.of(self.by)
        if not isinstance(model, TaskModel) or self.head not in model.heads:
            raise ConfigError(f"Scored.head={self.head!r} is none of the heads of {self.by.address}; name one that it was trained with")
        found: list[float] = []
        for batch in batches(answers):
            told = model.scores(batch.tokens.to(model.device), batch.layout.to(model.device))
            found += told[self.head][:, 0, 0].float().tolist()
        return found


class Likelier(Judging):
    """β·(log π(answer) − log π_before(answer)), π being a policy that has learnt from pairs which answers are preferred: the reward that its
    loss (`DPO`) has it stand for, and without π_before that of losses without a reference (`SimPO(length="sum")`).

    Telling right from wrong by how likely it is takes no more than writing does, so that a small model learns it from fewer pairs than to say
    it with a head (docs/log.md). Texts count as wholes: longer ones are the less likely, unless π_before is asked, too.

    Source: Rafailov et al. (2023), arXiv 2305.18290, section 4; as a reward model: Lambert et al. (2024), RewardBench, arXiv 2403.13787.
    """

    by: Frozen
    """π."""
    before: Frozen | None = None
    """π_before: what it was before it learnt from pairs."""
    beta: Annotated[float, Gt(0)] = 1.0
    """β: that of its loss."""

    def frozen(self) -> tuple[Frozen, ...]:
        return (self.by,) if self.before is None else (self.by, self.before)

    @torch.no_grad()
    def raw(self, answers: Sequence[Answer], models: Models) -> Sequence[float]:
        found: list[float] = []
        for batch in batches(answers):
            told = [
                Reading(Models(model), batch.to(model.device)).told().logprobs.double().sum(1) for model in map(models.of, self.frozen())
            ]  # fmt: skip
            found += (self.beta * (told[0] if len(told) == 1 else told[0] - told[1])).tolist()
        return found


def batches(answers: Sequence[Answer]) -> Iterator[Batch]:
    """Prompts and answers as rows, of which the answers count; by a number that does not depend on the micro-batch."""
    for start in range(0, len(answers), READ_AT_ONCE):
        some = answers[start : start + READ_AT_ONCE]
        longest = max(len(one.ids) for one in some)
        place = torch.arange(longest)
        tokens = torch.tensor([[*one.ids, *[0] * (longest - len(one.ids))] for one in some])
        begins, ends = (torch.tensor(of)[:, None] for of in ([one.begins for one in some], [len(one.ids) for one in some]))
        weight = ((place >= begins - 1) & (place < ends - 1)).float()
        layout = replace(SequenceLayout.packed((place < ends).long()), alike=True)  # samples of one prompt follow each other
        yield Batch(tokens, tokens.roll(-1, 1), weight, layout)
