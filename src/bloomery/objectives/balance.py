"""Losses on routers: that all experts get work, that logits stay small. Terms beside another loss: `CausalLM() + 0.01 * LoadBalance()`."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.data.batch import Batch
from bloomery.data.tasks import RowTask
from bloomery.models import ModelConfig, Transformer, TransformerConfig
from bloomery.models.transformer import NamedConfig
from bloomery.nn.experts import Experts, ExpertsConfig, Routing
from bloomery.objectives.objective import Objective, Reading, Total, real_tokens


class LoadBalance(Objective):
    """How unevenly routers spread the tokens of each document over the experts; mean over layers, weighed by the document's tokens:

        Σ_d T_d · E · Σ_e f_e·P_e,   f_e = share of d's T_d tokens that chose expert e,   P_e = mean share that the router gave it

    of E experts. Where the router gives all experts the same it is n_active, its least value in a balanced state; gradients go through P.
    Padding does not count. The metric `busiest_expert` is the load of the document's busiest expert, where the mean is 1.

    Source: Fedus et al. (2021), arXiv 2101.03961, equations 4 to 6, with n_active experts per token as in Mixtral's published code; by
    document as in DeepSeek-AI (2024), arXiv 2412.19437, equations 17 to 20. Departures: by document, since a product of means over a batch
    would depend on how the batch is split; the mean over layers of each layer's loss, where Mixtral's code joins the tokens of all layers,
    so that one layer's excess can hide another's.
    """

    looks_inside: ClassVar[bool] = True

    def total(self, reading: Reading) -> Total:
        documents, sizes = documents_of(reading.batch)
        balance, busiest = [], []
        for routing in routings(reading):
            chosen = torch.zeros_like(routing.shares).scatter(1, routing.experts, 1.0)
            loads, liked = (_sums(x, documents, sizes) / sizes.clamp(min=1)[:, None] for x in (chosen, routing.shares))
            n_experts, n_active = routing.shares.shape[1], routing.experts.shape[1]
            balance.append(n_experts * (sizes * (loads * liked).sum(1)).sum())
            busiest.append(n_experts / n_active * (sizes * loads.amax(1)).sum())
        total = torch.stack(balance).mean()
        return total, {"balance": total.detach(), "busiest_expert": torch.stack(busiest).mean()}

    def weight(self, batch: Batch) -> float:
        return float(real_tokens(batch).sum())

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        check_experts(self, model)


class RouterZ(Objective):
    """Σ over tokens of (log Σ_e exp(logit_e))², mean over layers: keeps the logits of routers small, and with them their rounding errors.

    Padding does not count.

    Source: Zoph et al. (2022), ST-MoE, arXiv 2202.08906, equation 5.
    """

    looks_inside: ClassVar[bool] = True

    def total(self, reading: Reading) -> Total:
        real, routed = real_tokens(reading.batch).flatten(), routings(reading)
        squares = torch.stack([routing.logits.logsumexp(-1).square() for routing in routed]).mean(0)
        total = torch.where(real, squares, 0.0).sum()
        return total, {"router_z": total.detach()}

    def weight(self, batch: Batch) -> float:
        return float(real_tokens(batch).sum())

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        check_experts(self, model)


def check_experts(objective: Objective, model: ModelConfig) -> None:
    """Raises `ConfigError` where a model has no routers."""
    parts = model.transformer if isinstance(model, NamedConfig) else model
    if not (isinstance(parts, TransformerConfig) and any(isinstance(ff, ExpertsConfig) for ff in parts.feed_forwards)):
        raise ConfigError(f"objective has the term {objective}, and a {model.kind()} has no experts whose load could be balanced; take it out")


def routings(reading: Reading) -> list[Routing]:
    """What each layer's router made of the tokens, (batch · time) in a row: made once more from what its layer read, which costs little."""
    policy = reading.models.policy
    layers = policy.feed_forwards if isinstance(policy, Transformer) else []
    read = zip(layers, reading.seen().ff_inputs, strict=True)
    return [layer.router(x.flatten(0, 1)) for layer, x in read if isinstance(layer, Experts)]


def documents_of(batch: Batch) -> tuple[Int[Tensor, " tokens"], Float[Tensor, " documents"]]:
    """The number of each place's document within the batch, and how many tokens each has; numbers that no document has, and those of padding,
    have none."""
    rows, time = batch.tokens.shape
    segments = batch.layout.segments
    first = torch.arange(rows, device=batch.tokens.device)[:, None] * (time + 1)
    documents = (first + 1 if segments is None else first + segments).expand(rows, time).flatten()
    real = real_tokens(batch).flatten().float()
    return documents, real.new_zeros(rows * (time + 1)).index_add(0, documents, real)


def _sums(x: Tensor, documents: Tensor, sizes: Tensor) -> Tensor:
    """Sums over each document: (documents, n_experts)."""
    return x.new_zeros(len(sizes), x.shape[1]).index_add(0, documents, x)
