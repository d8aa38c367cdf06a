"""Credit assignment: from what whole texts have earned to what each of their tokens is worth. An algorithm is one of these and an objective:

    REINFORCE   Reinforce()                          PolicyGradient(clip=None)
    RLOO        LeaveOneOut()                        PolicyGradient(clip=None, over=OverBudget())
    PPO         GAE()                                PolicyGradient() + 0.1 * ValueLoss()
    GRPO        GroupRelative()                      PolicyGradient(over=OverSequences()) + β * ReferenceKL(estimator="k3")
    Dr. GRPO    GroupRelative(scale="none")          PolicyGradient(over=OverBudget(tokens=…))
    DAPO        GroupRelative(flat="left_out")       PolicyGradient(clip=(0.2, 0.28), over=OverTokens())

What is earned at the steps of a text (`Stepwise(worth="each")`) is credited to what led there by GAE(), and by StepRelative() in place of
GroupRelative(); the others know what whole texts have earned.

All of it is worked out once for a whole round, in float64, before any of its rows is learnt from: no micro-batch can change it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Integer

from bloomery.core.config import Config

OfRows = Float[np.ndarray, " rows"]
OfTokens = Float[np.ndarray, "rows time"]


@dataclass(frozen=True, eq=False)
class Earned:
    """What the texts of a round have earned.

    Attributes:
        rewards: of each text, weighed and added up.
        drawn: where tokens were drawn.
        tolls: what each token costs, 0 where none was drawn: β·(log μ − log π_ref).
        prompts: number of each text's prompt.
        values: what the policy expected from each place on; None where it has no head for it.
        placed: what is earned at each token; None where texts earn all of it on their last.
    """

    rewards: OfRows
    drawn: Bool[np.ndarray, "rows time"]
    tolls: OfTokens
    prompts: Integer[np.ndarray, " rows"]
    values: OfTokens | None = None
    placed: OfTokens | None = None

    @property
    def returns(self) -> OfRows:
        """What each text has earned less what it cost."""
        return self.rewards - (self.tolls * self.drawn).sum(1)

    @property
    def at_tokens(self) -> OfTokens:
        """What is earned at each token less what it cost."""
        earned = np.where(self.ends, self.rewards[:, None], 0.0) if self.placed is None else self.placed
        return earned - self.tolls * self.drawn

    @property
    def ends(self) -> Bool[np.ndarray, "rows time"]:
        """The last drawn token of each text."""
        behind = np.zeros_like(self.drawn)
        behind[:, :-1] = self.drawn[:, 1:]
        return self.drawn & ~behind


@dataclass(frozen=True, eq=False)
class Worth:
    """What tokens are worth.

    Attributes:
        advantages: of each token, 0 where none was drawn.
        counts: which texts are learnt from.
        returns: what the head for values is to learn; None where there is none.
    """

    advantages: OfTokens
    counts: Bool[np.ndarray, " rows"]
    returns: OfTokens | None = None


class Credit(Config):
    """How what texts have earned is shared out among their tokens."""

    reads_values: ClassVar[str | None] = None
    """The head of the policy that it asks what it expects; None where it asks nothing."""

    advantages: Literal["plain", "whitened"] = "plain"
    """Whether advantages are as they are, or brought to mean 0 and variance 1 over all drawn tokens of the round."""

    @abstractmethod
    def shared(self, earned: Earned) -> Worth:
        """Advantages as they are, and what comes with them."""

    def worth(self, earned: Earned) -> Worth:
        """What each token is worth."""
        worth = self.shared(earned)
        if self.advantages == "plain":
            return worth
        return replace(worth, advantages=whitened(worth.advantages, earned.drawn & worth.counts[:, None]))


class OfTexts(Credit):
    """Credit that gives all tokens of a text the same."""

    @abstractmethod
    def of_texts(self, returns: OfRows, prompts: Integer[np.ndarray, " rows"]) -> OfRows:
        """The advantage of each text."""

    def shared(self, earned: Earned) -> Worth:
        found = self.of_texts(earned.returns, earned.prompts)
        return Worth(found[:, None] * earned.drawn, np.ones(len(found), bool))


class Reinforce(OfTexts):
    """A = R − b, with the mean of the round for b.

    Source: Williams (1992), "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning"; departure: a round's
    mean is not quite independent of each of its texts, which shortens the gradient by the factor 1 − 1/rows and turns it nowhere.
    """

    baseline: Literal["mean", "none"] = "mean"
    """b: the mean of the round, or 0."""

    def of_texts(self, returns: OfRows, prompts: Integer[np.ndarray, " rows"]) -> OfRows:
        return returns - (returns.mean() if self.baseline == "mean" else 0.0)


class LeaveOneOut(OfTexts):
    """A_i = R_i − mean of R_j over the other texts j to the same prompt; 0 where there is no other.

    Source: Ahmadian et al. (2024), RLOO, arXiv 2402.14740, section 3; Kool et al. (2019), "Buy 4 REINFORCE Samples, Get a Baseline for Free!".
    """

    def of_texts(self, returns: OfRows, prompts: Integer[np.ndarray, " rows"]) -> OfRows:
        which, count = groups(prompts)
        others = (np.bincount(which, returns)[which] - returns) / np.maximum(count - 1, 1)
        return np.where(count > 1, returns - others, 0.0)


class GroupRelative(OfTexts):
    """A_i = (R_i − m) / (s + ε), m and s being mean and standard deviation over the texts to the same prompt, ε = 1e-4.

    Source: Shao et al. (2024), GRPO, arXiv 2402.03300, section 4.1, with the divisor n − 1 in s as the usual libraries have it; scale="none"
    is that of Dr. GRPO, Liu et al. (2025), arXiv 2503.20783; flat="left_out" that of DAPO, Yu et al. (2025), arXiv 2503.14476, section 3.2,
    for what `Rollout.again` has left.
    """

    scale: Literal["group", "round", "none"] = "group"
    """What advantages are divided by: the standard deviation of the group, that of the whole round, or nothing."""
    flat: Literal["kept", "left_out"] = "kept"
    """Whether texts of a group that have all earned the same, and teach nothing, count among those that the loss is divided by."""

    def of_texts(self, returns: OfRows, prompts: Integer[np.ndarray, " rows"]) -> OfRows:
        which, count = groups(prompts)
        apart = returns - (np.bincount(which, returns) / np.bincount(which))[which]
        if self.scale == "none":
            return apart
        if self.scale == "round":
            return apart / (returns.std(ddof=1 if len(returns) > 1 else 0) + SCALE_EPSILON)
        squares = np.bincount(which, apart**2)[which]
        return apart / (np.sqrt(squares / np.maximum(count - 1, 1)) + SCALE_EPSILON)

    def shared(self, earned: Earned) -> Worth:
        worth = super().shared(earned)
        if self.flat == "kept":
            return worth
        which, _ = groups(earned.prompts)
        low, high = (np.full(which.max() + 1, start) for start in (np.inf, -np.inf))
        np.minimum.at(low, which, earned.rewards)
        np.maximum.at(high, which, earned.rewards)
        return replace(worth, counts=(high > low)[which])


class StepRelative(Credit):
    """A_t = Σ over the steps that end at t or later of (r_i − m) / (s + ε), m and s being mean and standard deviation over the steps of all
    texts to the same prompt, ε = 1e-4. A step ends where something is earned, and with the text; r_i is what it earned less what its tokens
    cost. Where each text is one step, this is `GroupRelative()`.

    Source: Shao et al. (2024), GRPO with process supervision, arXiv 2402.03300, section 4.1.3, with the divisor n − 1 in s; tolls are ours.
    """

    def shared(self, earned: Earned) -> Worth:
        ends = earned.ends if earned.placed is None else earned.ends | (earned.drawn & (earned.placed != 0))
        row, place = np.nonzero(ends)  # step by step, text by text
        so_far = earned.at_tokens.cumsum(1)[row, place]
        steps = so_far - np.where(np.diff(row, prepend=-1) == 0, np.roll(so_far, 1), 0.0)
        which, count = groups(earned.prompts[row])
        apart = steps - (np.bincount(which, steps) / np.bincount(which))[which]
        spread = np.sqrt(np.bincount(which, apart**2)[which] / np.maximum(count - 1, 1))
        found = np.zeros(earned.drawn.shape)
        found[row, place] = apart / (spread + SCALE_EPSILON)
        to_come = np.flip(np.flip(found, 1).cumsum(1), 1)
        return Worth(to_come * earned.drawn, np.ones(len(found), bool))


class GAE(Credit):
    """Generalised advantage estimation, over the tokens of each text:

        r_t = −toll_t + what is earned at t;   δ_t = r_t + γ·V_{t+1} − V_t;   A_t = Σ_l (γλ)^l δ_{t+l};   returns = A + V, before whitening

    V behind the last token is 0: a text is over, also where only its room was.

    Source: Schulman et al. (2015), arXiv 1506.02438; on texts: Ziegler et al. (2019), arXiv 1909.08593.
    """

    reads_values: ClassVar[str | None] = "value"

    advantages: Literal["plain", "whitened"] = "whitened"
    """Whether advantages are as they are, or brought to mean 0 and variance 1 over all drawn tokens of the round."""
    discount: Annotated[float, Ge(0), Le(1)] = 1.0
    """γ."""
    trace: Annotated[float, Ge(0), Le(1)] = 0.95
    """λ: at 0 the error of one step, at 1 all that came less what was expected."""

    def shared(self, earned: Earned) -> Worth:
        assert earned.values is not None, "the policy's head for values was not asked"
        values = np.where(earned.drawn, earned.values, 0.0)
        after = np.zeros_like(values)
        after[:, :-1] = values[:, 1:]
        goes_on = earned.drawn & ~earned.ends
        found = gae(earned.at_tokens, values, np.where(goes_on, after, 0.0), goes_on, self.discount, self.trace) * earned.drawn
        return Worth(found, np.ones(len(found), bool), (found + values) * earned.drawn)


SCALE_EPSILON = 1e-4


def gae(
    rewards: OfTokens, values: OfTokens, after: OfTokens, goes_on: Bool[np.ndarray, "rows time"], discount: float, trace: float,
) -> OfTokens:  # fmt: skip
    """A_t = δ_t + γλ·A_{t+1} where it goes on,  δ_t = r_t + γ·V'_t − V_t.

    Args:
        rewards: r.
        values: V of the state at each step.
        after: V' of the state that it leads to; 0 where that is the end.
        goes_on: whether the next step is of the same course.
        discount: γ.
        trace: λ.
    """
    errors, found, behind = rewards + discount * after - values, np.zeros_like(values), np.zeros(len(values))
    for t in reversed(range(values.shape[1])):
        behind = errors[:, t] + discount * trace * goes_on[:, t] * behind
        found[:, t] = behind
    return found


def whitened(numbers: OfTokens, where: Bool[np.ndarray, "rows time"]) -> OfTokens:
    """(x − mean) / √(variance + 1e-8) over some places, the variance with n − 1; 0 elsewhere."""
    some = numbers[where]
    if len(some) < 2:
        return np.zeros_like(numbers)
    return np.where(where, (numbers - some.mean()) / np.sqrt(some.var(ddof=1) + 1e-8), 0.0)


def groups(prompts: Integer[np.ndarray, " rows"]) -> tuple[Integer[np.ndarray, " rows"], Integer[np.ndarray, " rows"]]:
    """For each text the number of its group, from 0, and how many are in it."""
    _, which, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    return which, counts[which]
