"""Replaced-token detection: a generator fills in what was hidden, a discriminator tells what was filled in."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.data.tasks import RowTask
from bloomery.models import Electra, ElectraPairConfig, ModelConfig
from bloomery.nn.chunked import logits_by_chunk
from bloomery.nn.cross_entropy import exactly
from bloomery.nn.head import OutputHead
from bloomery.objectives.causal_lm import CausalLM
from bloomery.objectives.objective import Objective, Reading, Total, real_tokens


class ReplacedTokens(Objective):
    """Masked language modelling of the generator, and of the discriminator a judgement on every token:

        L = mean over hidden tokens of −log p_G(x)  +  λ · mean over real tokens of −log p_D(replaced or not)

    The discriminator reads the text with each hidden token sampled from the generator; a sample that happens to be the original token counts
    as original. No gradient goes through the samples. Each sample is the inverse of the distribution at `Batch.draws`, so that it does
    not depend on how a batch is split. The metrics are `nll` of the generator, and by real tokens `detection` (nats), `detected` (the share
    that is judged rightly) and `replaced` (the share that was replaced).

    Train it under `MaskedTokens(keep=0, random=0)`.

    Source: Clark et al. (2020), arXiv 2003.10555, section 2; λ from section 3.1.
    """

    discriminator_weight: Annotated[float, Gt(0)] = 50.0
    """λ: of the discriminator's loss."""

    generator: ClassVar[Objective] = CausalLM()
    """Of the generator."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        if not isinstance(model, ElectraPairConfig):
            raise ConfigError(f"ReplacedTokens trains a generator and a discriminator, and a {model.kind()} is no such pair; "
                              "take an ElectraPairConfig, or CausalLM()")  # fmt: skip
        if not task.gives_draws:
            raise ConfigError(f"ReplacedTokens samples where tokens are hidden, and {task.kind()} hides none; "
                              "take MaskedTokens(keep=0, random=0)")  # fmt: skip

    def totals(self, reading: Reading) -> list[Total]:
        batch, policy = reading.batch, reading.models.policy
        assert isinstance(policy, Electra)
        assert batch.draws is not None
        sampled = samples(policy.head, reading.features().flatten(0, 1), batch.draws.flatten()).view_as(batch.tokens)
        text = torch.where(batch.loss_weight > 0, sampled, batch.targets)
        real, replaced = real_tokens(batch), text != batch.targets
        judged = exactly(policy.replaced(text, batch.layout))  # (batch, time)
        losses = F.binary_cross_entropy_with_logits(judged, replaced.to(judged.dtype), reduction="none")
        total = _over(losses, real)
        metrics = {
            "detection": total.detach(), "detected": _over((judged > 0) == replaced, real), "replaced": _over(replaced, real),
        }  # fmt: skip
        return [self.generator.total(reading), (self.discriminator_weight * total, metrics)]

    def weights(self, batch: Batch) -> tuple[float, ...]:
        return (batch.weight, float(real_tokens(batch).sum()))


@torch.no_grad()
def samples(head: OutputHead, features: Float[Tensor, "n d_features"], draws: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """A token at each place, from the head's distribution there; the logits are formed chunk by chunk.

    Args:
        head: of the generator.
        features: what it reads.
        draws: in [0, 1): the token is the first one up to which the distribution adds up to more.
    """
    found = []
    for places, logits in logits_by_chunk(head, features):
        below = logits.float().softmax(-1).cumsum(-1)
        threshold = draws[places, None] * below[:, -1:]
        found.append((below <= threshold).sum(-1).clamp(max=logits.shape[-1] - 1))
    return torch.cat(found)


def _over(values: Tensor, places: Bool[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """Their sum over some places."""
    return exactly((values * places).sum())
