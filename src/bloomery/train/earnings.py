"""`Earns`: what a policy's texts are judged by; `Earnings`: the judgement of a round, with what models beside it say of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Integer
from pydantic import Field
from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.data.source import Rows
from bloomery.models import Model, TaskModel
from bloomery.nn.chunked import logits_by_chunk
from bloomery.nn.cross_entropy import exactly
from bloomery.nn.layout import SequenceLayout
from bloomery.objectives import Frozen
from bloomery.train.credit import Credit, Earned
from bloomery.train.rewards import Answer, Reward
from bloomery.train.state import TrainState

OfTokens = Float[np.ndarray, "rows time"]
BETA = "beta"  # in `TrainState.tuned`
READ_AT_ONCE = 64


class Toll(Config):
    """What a policy pays for each token that its reference finds less likely: β·(log μ − log π_ref), the k1 estimate of the divergence.

    Source: Ziegler et al. (2019), arXiv 1909.08593, section 2.
    """

    beta: Annotated[float, Ge(0)] = 0.05
    """β, per nat."""

    def after(self, beta: float, kl: float, texts: int) -> float:
        """β of the next round.

        Args:
            beta: of this one.
            kl: nats of divergence per text in this one.
            texts: in this one.
        """
        return beta


class AdaptiveToll(Toll):
    """β that follows what is paid: β ← β·(1 + clip(KL/target − 1, −0.2, 0.2)·texts/horizon).

    Source: Ziegler et al. (2019), arXiv 1909.08593, section 2.2.
    """

    target: Annotated[float, Gt(0)] = 6.0
    """KL, in nats per text."""
    horizon: Annotated[int, Gt(0)] = 10_000
    """Texts in which β would be changed by its own size."""

    def after(self, beta: float, kl: float, texts: int) -> float:
        return beta * (1.0 + min(0.2, max(-0.2, kl / self.target - 1.0)) * texts / self.horizon)


class Earns(Config):
    """What texts earn, and how that becomes what their tokens are worth."""

    rewards: tuple[Reward, ...] = Field(min_length=1)
    """What texts are worth; they add up by their weights."""
    credit: Credit
    """How that is shared out: `Reinforce()`, `LeaveOneOut()`, `GroupRelative()` or `GAE()`."""
    reference: Frozen | None = None
    """What the policy was before: how far it has gone from there is shown, and can cost."""
    toll: Toll | None = None
    """What going there costs, beside the rewards: `Toll(beta=…)` or `AdaptiveToll(target=…)`; None costs nothing."""

    def check(self) -> None:
        names = [one.called for one in self.rewards]
        if twice := {name for name in names if names.count(name) > 1}:
            raise self.refuse("rewards", f"has two named {min(twice)!r}; give each a name of its own")
        if not any(one.weight for one in self.rewards):
            raise self.refuse("rewards", "has none with a weight, so that there is nothing to learn; give one a weight")
        if self.toll is not None and self.reference is None:
            raise self.refuse("toll", "is paid for the distance from a reference, and there is none; name one, or leave the toll out")

    def frozen(self) -> tuple[Frozen, ...]:
        """The models that are asked beside the policy."""
        own = () if self.reference is None else (self.reference,)
        return tuple({one.address: one for one in (*own, *(one for reward in self.rewards for one in reward.frozen()))}.values())

    @property
    def gives(self) -> frozenset[str]:
        """The parts of `Samples` that losses find."""
        values = frozenset() if self.credit.reads_values is None else frozenset({"returns", "values"})
        return frozenset({"advantages"}) | values | (frozenset() if self.reference is None else frozenset({"reference"}))


@dataclass(frozen=True, eq=False)
class Scores:
    """What rewards make of texts.

    Attributes:
        given: of each reward, not weighed.
        placed: what is earned at each token, weighed and added up; None where all of it is on the last one.
    """

    given: Float[np.ndarray, "rows rewards"]
    placed: OfTokens | None = None

    def with_texts(self, where: Bool[np.ndarray, " rows"], other: Scores) -> Scores:
        """Those of a round with other texts in some places."""
        given, placed = self.given.copy(), None if self.placed is None else self.placed.copy()
        given[where] = other.given
        if placed is not None:
            placed[where] = other.placed
        return Scores(given, placed)


@dataclass(frozen=True, eq=False)
class Judged:
    """The judgement of a round. What is of tokens stands where they are targets, and is 0 where none was drawn.

    Attributes:
        scores: of each reward, not weighed.
        advantages: what tokens are worth.
        counts: which texts are learnt from.
        beta: what was paid per nat.
        reference: log π_ref of tokens; None where there is no reference.
        values: what the policy expected; None where it was not asked.
        returns: what it should have expected.
    """

    scores: Float[np.ndarray, "rows rewards"]
    advantages: OfTokens
    counts: Bool[np.ndarray, " rows"]
    beta: float
    reference: OfTokens | None = None
    values: OfTokens | None = None
    returns: OfTokens | None = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For a file."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return found | {"counts": self.counts.astype(np.uint8), "beta": np.array([self.beta])}

    @classmethod
    def of_arrays(cls, found: dict[str, np.ndarray]) -> Judged:
        """Back from a file."""
        optional = {name: found.get(name) for name in ("reference", "values", "returns")}
        return cls(found["scores"], found["advantages"], found["counts"].astype(bool), float(found["beta"][0]), **optional)


class Earnings:
    """Judges rounds.

    Args:
        earns: by what.
        state: of the training, with the policy, the models beside it, and β.
        temperature: that texts are written at.
        vocab_size: ids below it could be drawn.
    """

    def __init__(self, earns: Earns, state: TrainState, temperature: float, vocab_size: int) -> None:
        self.earns, self.state, self.temperature, self.vocab_size = earns, state, temperature, vocab_size
        self.weights = np.array([reward.weight for reward in earns.rewards])

    def _scores(self, logits: Tensor) -> Tensor:
        return exactly(logits) / self.temperature

    def scores(self, answers: Sequence[Answer], time: int) -> Scores:
        """What rewards make of texts, that stand in rows of some targets."""
        rewards, models = self.earns.rewards, self.state.models
        where = [reward.placed(answers, models) for reward in rewards]
        given = np.stack([
            np.array(reward.scores(answers, models) if places is None else [sum(one.values()) for one in places], np.float64)
            for reward, places in zip(rewards, where, strict=True)
        ], 1)  # fmt: skip
        if all(places is None for places in where):
            return Scores(given)
        placed = np.zeros((len(answers), time))
        for row, answer in enumerate(answers):
            for weight, score, places in zip(self.weights, given[row], where, strict=True):
                for place, earned in ({answer.tokens - 1: score} if places is None else places[row]).items():
                    if answer.tokens:  # what nobody wrote earns nothing
                        placed[row, answer.begins - 1 + place] += weight * earned
        return Scores(given, placed)

    def flat(self, scores: Float[np.ndarray, "rows rewards"], samples: int) -> Bool[np.ndarray, " rows"]:
        """Which texts are of a group in which all have earned the same."""
        earned = (scores @ self.weights).reshape(-1, samples)
        return np.repeat(earned.max(1) == earned.min(1), samples)

    def judge(self, rows: Rows, logprobs: OfTokens, prompts: Integer[np.ndarray, " rows"], scores: Scores) -> Judged:
        """What the texts of a round are worth.

        Args:
            rows: prompts and texts; what was drawn has weight.
            logprobs: log μ of what was drawn.
            prompts: number of each text's prompt.
            scores: what each reward has made of them.
        """
        earns, models, drawn = self.earns, self.state.models, rows.loss_weight > 0
        reference = None if earns.reference is None else told(models.of(earns.reference), rows, self._scores, self.vocab_size)
        head = earns.credit.reads_values
        values = None if head is None else expected(models.policy, rows, head)
        beta = 0.0 if earns.toll is None else self.state.tuned.get(BETA, earns.toll.beta)
        tolls = np.zeros(drawn.shape) if reference is None else beta * np.where(drawn, logprobs.astype(np.float64) - reference, 0.0)
        worth = earns.credit.worth(Earned(scores.given @ self.weights, drawn, tolls, prompts, values, scores.placed))
        exact = (None if one is None else one.astype(np.float32) for one in (reference, values, worth.returns))
        return Judged(scores.given, worth.advantages.astype(np.float32), worth.counts, beta, *exact)

    def settle(self, judged: Judged, logprobs: OfTokens) -> None:
        """Sets β for the round after one: a function of that round alone, so that it may be done again."""
        if self.earns.toll is not None and judged.reference is not None:
            kl = float((logprobs - judged.reference).sum(1).mean())
            self.state.tuned[BETA] = self.earns.toll.after(judged.beta, kl, len(logprobs))

    def figures(self, judged: Judged, which: Sequence[int] | np.ndarray, logprobs: OfTokens) -> dict[str, float]:
        """Means over some texts, whose log μ are given: of the weighed sum of rewards, of each reward, and in nats per text, how far the
        policy is from its reference."""
        scores = judged.scores[which].mean(0)
        found = {"reward": float(scores @ self.weights)}
        found |= {f"reward/{reward.called}": float(score) for reward, score in zip(self.earns.rewards, scores, strict=True)}
        if judged.reference is not None:
            found["kl"] = float((logprobs.astype(np.float64) - judged.reference[which]).sum(1).mean())
        return found | ({} if self.earns.toll is None else {"beta": judged.beta})


@torch.no_grad()
def told(model: Model, rows: Rows, scores: Callable[[Tensor], Tensor], vocab_size: int) -> Float[np.ndarray, "rows time"]:
    """log π of each target that has weight, π = softmax(scores(logits of ids that could be drawn)); 0 elsewhere."""

    def of(tokens: Tensor, layout: SequenceLayout, part: slice) -> Tensor:
        learnt = torch.from_numpy(rows.loss_weight[part] > 0).to(tokens.device)
        features = model.features(tokens, layout)[learnt]
        targets = torch.from_numpy(rows.targets[part]).to(tokens.device)[learnt]
        found = torch.zeros(learnt.shape, device=tokens.device)
        logprobs = [
            torch.log_softmax(scores(logits[:, :vocab_size]), -1).gather(-1, targets[some, None])[:, 0]
            for some, logits in logits_by_chunk(model.head, features)
        ]
        found[learnt] = torch.cat(logprobs) if logprobs else found[learnt]
        return found

    return _read(model, rows, of)


@torch.no_grad()
def expected(model: Model, rows: Rows, head: str) -> Float[np.ndarray, "rows time"]:
    """What a head of the policy makes of each place."""
    if not isinstance(model, TaskModel) or head not in model.heads:
        raise ConfigError(f"Train.rollout.earns.credit asks the policy's head {head!r} what it expects, and there is none; take "
                          f"HeadsOn(…, heads=(ValueConfig(),), language_head=True)")  # fmt: skip
    policy: TaskModel = model
    return _read(model, rows, lambda tokens, layout, part: exactly(policy.scores(tokens, layout)[head][:, :, 0]))


def _read(model: Model, rows: Rows, of: Callable[[Tensor, SequenceLayout, slice], Tensor]) -> Float[np.ndarray, "rows time"]:
    """Something of each place, rows beside each other by a number that does not depend on the micro-batch."""
    training, found = model.training, []
    model.eval()
    for start in range(0, len(rows.tokens), READ_AT_ONCE):
        part = slice(start, start + READ_AT_ONCE)
        tokens = torch.from_numpy(rows.tokens[part]).to(model.device)
        layout = replace(SequenceLayout.packed(torch.from_numpy(rows.segments[part])), alike=True).to(model.device)
        found.append(of(tokens, layout, part).cpu().numpy())
    model.train(training)
    return np.concatenate(found).astype(np.float64)
