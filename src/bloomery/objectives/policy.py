"""Losses of a policy on what it has written itself: terms for rows that have `Samples` (`Train.rollout`).

    PolicyGradient(clip=None, over=OverBudget())                                       REINFORCE, RLOO
    PolicyGradient() + 0.1 * ValueLoss() + 0.01 * Entropy()                            PPO
    PolicyGradient(over=OverSequences()) + 0.04 * ReferenceKL(estimator="k3")          GRPO
    PolicyGradient(over=OverBudget(tokens=64))                                         Dr. GRPO
    PolicyGradient(clip=(0.2, 0.28))                                                   DAPO

What tokens are worth is not theirs to say: advantages come with the rows, worked out over whole rounds (`train/credit.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from bloomery.core.config import Config
from bloomery.core.units import Tokens
from bloomery.data.batch import Batch, Samples
from bloomery.objectives.objective import Objective, Reading, Total

OfPlaces = Float[Tensor, "batch time"]


class Over(Config):
    """What the losses of tokens are added up by, and divided by."""

    @abstractmethod
    def shares(self, loss_weight: OfPlaces) -> OfPlaces:
        """What each token's loss is multiplied by."""

    @abstractmethod
    def weight(self, loss_weight: OfPlaces) -> float:
        """What the sum is divided by."""


class OverTokens(Over):
    """The mean over all tokens: long sequences say more.

    Source: Yu et al. (2025), DAPO, arXiv 2503.14476, section 3.3.
    """

    def shares(self, loss_weight: OfPlaces) -> OfPlaces:
        return loss_weight

    def weight(self, loss_weight: OfPlaces) -> float:
        return float(loss_weight.sum(dtype=torch.float64))


class OverSequences(Over):
    """The mean over sequences of the mean over their tokens: tokens of long sequences count less.

    Source: Shao et al. (2024), GRPO, arXiv 2402.03300, equation 3.
    """

    def shares(self, loss_weight: OfPlaces) -> OfPlaces:
        return loss_weight / loss_weight.sum(1, keepdim=True).clamp(min=torch.finfo(loss_weight.dtype).tiny)

    def weight(self, loss_weight: OfPlaces) -> float:
        return float((loss_weight > 0).any(1).sum())


class OverBudget(OverSequences):
    """The mean over sequences of the sum over their tokens, by a number that does not depend on their lengths: the gradient of the expected
    reward, but for that factor.

    Source: Liu et al. (2025), Dr. GRPO, arXiv 2503.20783, section 3.2; with tokens=1, Williams (1992).
    """

    tokens: Tokens = 1
    """What the sum over a sequence is divided by; the most tokens that one may have keeps losses at the size of other means."""

    def shares(self, loss_weight: OfPlaces) -> OfPlaces:
        return loss_weight / self.tokens


class OfSamples(Objective):
    """What losses of written rows have in common. π is the policy at the temperature that the rows were written at."""

    reads: ClassVar[frozenset[str]] = frozenset()
    """The parts of `Samples` that it reads beside log-probabilities."""

    over: Over = OverTokens()
    """`OverTokens()`, `OverSequences()` or `OverBudget(tokens=…)`."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """That of `Train.rollout.sampler`."""

    @property
    def needs(self) -> frozenset[str]:
        return self.reads

    def weight(self, batch: Batch) -> float:
        return self.over.weight(batch.loss_weight)

    def total(self, reading: Reading) -> Total:
        weight, samples = reading.batch.loss_weight, samples_of(reading.batch)
        losses, metrics = self.losses(reading, samples)
        shares, means = self.over.shares(weight), OverSequences().shares(weight) if isinstance(self.over, OverSequences) else weight
        return (shares * losses).sum(), {name: (means * value.detach()).sum() for name, value in metrics.items()}

    @abstractmethod
    def losses(self, reading: Reading, samples: Samples) -> tuple[OfPlaces, dict[str, Tensor]]:
        """(batch, time) of the loss, differentiable, and of metrics."""


class PolicyGradient(OfSamples):
    """Tokens that were worth more than expected become likelier, as far as the policy that wrote them can be relied on:

        ρ = π/μ;   loss = max(−A·ρ, −A·clip(ρ, 1 − ε_low, 1 + ε_high))

    Where the policy is still the one that wrote them, ρ = 1, and the gradient is that of −A·log π.

    Metrics: `clipped`, the share of tokens whose gradient is cut off; `moved`, the k3 estimate of KL(μ ‖ π) per token.

    Source: Schulman et al. (2017), PPO, arXiv 1707.06347, equation 7; ε of two sizes: Yu et al. (2025), DAPO, arXiv 2503.14476, section 3.1;
    ratios of sequences: Zheng et al. (2025), GSPO, arXiv 2507.18071 ("sequence_mean").
    """

    reads: ClassVar[frozenset[str]] = frozenset({"advantages"})

    clip: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] | None = (0.2, 0.2)
    """ε_low and ε_high; None clips nothing."""
    ratio: Literal["token", "sequence", "sequence_mean"] = "token"
    """Of what ρ is: of each token; of its whole sequence, the product of theirs; or of that, the geometric mean."""

    def losses(self, reading: Reading, samples: Samples) -> tuple[OfPlaces, dict[str, Tensor]]:
        assert samples.advantages is not None, "asked for by `reads`"
        counted = reading.batch.loss_weight > 0
        apart = (reading.told(self.temperature).logprobs - samples.logprobs) * counted
        moved = (torch.exp(apart) - 1 - apart) * counted
        if self.ratio != "token":
            whole = apart.sum(1, keepdim=True)
            apart = (whole / counted.sum(1, keepdim=True).clamp(min=1) if self.ratio == "sequence_mean" else whole).expand_as(apart)
        ratio, advantages = apart.exp(), samples.advantages
        loss = -advantages * ratio
        if self.clip is None:
            return loss, {"moved": moved}
        low, high = self.clip
        held = -advantages * ratio.clamp(1 - low, 1 + high)
        return torch.maximum(loss, held), {"moved": moved, "clipped": (held > loss).to(loss.dtype)}


class Entropy(OfSamples):
    """−H(π) at each drawn token: as a term with a small factor, it keeps a policy from saying the same always. Metric: `entropy`, in nats.

    Source: Williams and Peng (1991), "Function Optimization Using Connectionist Reinforcement Learning Algorithms".
    """

    def losses(self, reading: Reading, samples: Samples) -> tuple[OfPlaces, dict[str, Tensor]]:
        entropies = reading.told(self.temperature).entropies
        return -entropies, {"entropy": entropies}


class ReferenceKL(OfSamples):
    """How far the policy is from its reference, told from the drawn tokens; x = log π − log π_ref:

        k1 = x        the expectation is KL(π ‖ π_ref); as a loss its expected gradient is 0
        k2 = x²/2     as a loss its expected gradient is that of KL(π ‖ π_ref)
        k3 = e⁻ˣ − 1 + x    the expectation is KL(π ‖ π_ref), with less variance; as a loss its expected gradient is that of KL(π_ref ‖ π)

    all where the policy is the one that drew. So k1 is for tolls (`Earns.toll`), and k2 for losses; k3 is what GRPO has.

    Metric: `reference_kl`, the k3 estimate per token.

    Source: Schulman (2020), "Approximating KL Divergence", http://joschu.net/blog/kl-approx.html; gradients: Tang and Munos (2025),
    arXiv 2506.09477.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"reference"})

    estimator: Literal["k1", "k2", "k3"] = "k2"
    """Which."""

    def losses(self, reading: Reading, samples: Samples) -> tuple[OfPlaces, dict[str, Tensor]]:
        assert samples.reference is not None, "asked for by `reads`"
        x = (reading.told(self.temperature).logprobs - samples.reference) * (reading.batch.loss_weight > 0)
        of = {"k1": x, "k2": x.square() / 2, "k3": torch.exp(-x) - 1 + x}
        return of[self.estimator], {"reference_kl": of["k3"]}


def samples_of(batch: Batch) -> Samples:
    """What is known of rows that the policy has written."""
    assert batch.samples is not None, "rows that nobody has written; Train refuses such a loss without rollout"
    return batch.samples
