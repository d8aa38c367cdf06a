"""Cross-entropy of tokens: pre-training and instruction tuning, of decoders and encoders, are this loss under other tasks and weights."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt

from bloomery.core.errors import ConfigError
from bloomery.data.tasks import RowTask
from bloomery.models import EncoderDecoderConfig, ModelConfig, TaskConfig, TransformerConfig
from bloomery.objectives.objective import Objective, Reading, Total


class CausalLM(Objective):
    """Cross-entropy of each target under the policy: Σ w·ℓ(y | what the model sees), with the head's ℓ.

    What is a target, and what the model sees, is the task's business: under `NextToken` this is causal language modelling, under
    `MaskedTokens` masked language modelling, under `SpanCorruption` that of a decoder beside its encoder.

    The metric `nll` is the plain negative log-likelihood in nats, without smoothing and z-loss.

    Source: Bengio et al. (2003), JMLR 3; smoothing and z-loss as in `chunked_cross_entropy`.
    """

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the target's probability that is spread evenly over the vocabulary."""
    z_loss: Annotated[float, Ge(0)] = 0.0
    """Weight of the squared log-partition; 1e-4 is usual."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        if isinstance(model, TaskConfig) and not model.language_head:
            raise ConfigError("CausalLM asks for tokens, and the TaskConfig has language_head=False; set it to True, or leave CausalLM out")
        if self.label_smoothing and isinstance(model, TransformerConfig | EncoderDecoderConfig) and not model.head.smooths:
            raise self.refuse("label_smoothing", f"spreads over tokens that the model's {model.head.kind()} leaves out; set it to 0")

    def total(self, reading: Reading) -> Total:
        batch, head = reading.batch, reading.models.policy.head
        features = reading.features().flatten(0, 1)  # (batch · time, d_features)
        total, nll = head.cross_entropy(features, batch.targets.flatten(), batch.loss_weight.flatten(), self.label_smoothing, self.z_loss)
        return total, {"nll": nll}
