"""Next-token prediction: pre-training and instruction tuning are this loss under other weights."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt

from bloomery.objectives.objective import Objective, Reading, Total


class CausalLM(Objective):
    """Cross-entropy of each target under the policy: Σ w·ℓ(y | what comes before), with the head's ℓ.

    The metric `nll` is the plain negative log-likelihood in nats, without smoothing and z-loss.

    Source: Bengio et al. (2003), JMLR 3; smoothing and z-loss as in `chunked_cross_entropy`.
    """

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the target's probability that is spread evenly over the vocabulary."""
    z_loss: Annotated[float, Ge(0)] = 0.0
    """Weight of the squared log-partition; 1e-4 is usual."""

    def total(self, reading: Reading) -> Total:
        batch, head = reading.batch, reading.models.policy.head
        features = reading.features().flatten(0, 1)  # (batch · time, d_features)
        total, nll = head.cross_entropy(features, batch.targets.flatten(), batch.loss_weight.flatten(), self.label_smoothing, self.z_loss)
        return total, {"nll": nll}
