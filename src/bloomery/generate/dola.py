"""`DoLa`: what a model's last layer says more than an earlier one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.models.model import CausalModel
from bloomery.models.transformer import Transformer
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.seen import Seen


class DoLa(Config):
    """Contrasts the distribution p behind the last layer with q behind an earlier one, of which the head reads the residual stream:

        score(v) = log p(v) − log q(v)   where p(v) ≥ relative_top · max p,   −∞ elsewhere

    With one layer it is that (static); with several, at each place the one whose q is farthest from p by the Jensen–Shannon divergence
    (dynamic). It is a model as others are, which samplers, rules and beams go by.

    Source: Chuang et al. (2023), arXiv 2309.03883, section 2, equations 2 to 6.
    """

    layers: tuple[int, ...] | Literal["low", "high"] = "high"
    """Candidates: 0 is behind the embedding, j behind j layers; "low" and "high" are every other one of the lower and upper half."""
    relative_top: Annotated[float, Gt(0), Le(1)] = 0.1
    """How likely a token has to be, beside the likeliest, to be taken into account."""

    def check(self) -> None:
        if not self.layers:
            raise self.refuse("layers", "names none to contrast with; give one, or high")

    def of(self, model: CausalModel) -> Contrasted:
        """The model as it decodes; shares its weights.

        Raises:
            ConfigError: it has no such layers, or none that the head could read.
        """
        if not isinstance(model, Transformer) or not isinstance(model.transform, nn.Identity):
            raise ConfigError(f"DoLa has the head read the layers of a model, which those of a {model.config.kind()} are not made for; "
                              "leave it out, or take a decoder without a transform before its head")  # fmt: skip
        n = model.config.n_layers
        halves = {"low": tuple(range(0, n // 2, 2)), "high": tuple(range(n // 2, n, 2))}
        layers = halves[self.layers] if isinstance(self.layers, str) else self.layers
        if not layers or not all(0 <= layer < n for layer in layers):
            raise self.refuse("layers", f"does not fit a model of {n} layers; 0 to {n - 1} come before its last")
        return Contrasted(model, layers, self.relative_top)


class Contrasted(CausalModel):
    """See `DoLa`. Its features are what the head reads behind the candidates and at the end, one behind the other."""

    def __init__(self, model: CausalModel, layers: tuple[int, ...], relative_top: float) -> None:
        super().__init__()
        self.model, self.config, self.head = model, model.config, model.head
        self.layers, self.relative_top = layers, relative_top

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        seen = Seen() if seen is None else seen
        last = self.model.features(tokens, layout, cache, seen, passage)
        return torch.cat([*(seen.hidden[layer] for layer in self.layers), last], dim=-1)

    def unembed(self, features: Float[Tensor, "*batch d_features"]) -> Float[Tensor, "*batch vocab"]:
        *early, last = features.chunk(len(self.layers) + 1, dim=-1)
        return self.contrast(early, self.model.unembed(last))

    def contrast(
        self, early: Sequence[Float[Tensor, "*batch d_model"]], logits: Float[Tensor, "*batch vocab"]
    ) -> Float[Tensor, "*batch vocab"]:
        """The scores, from what the head reads behind each of the candidates, and what the model says in the end."""
        last = logits.float().log_softmax(dim=-1)
        candidates = torch.stack([self.model.unembed(part).float().log_softmax(dim=-1) for part in early])  # (candidates, *batch, vocab)
        farthest = divergence(candidates, last).argmax(dim=0)  # (*batch)
        contrast = last - candidates.gather(0, farthest[None, ..., None].expand(1, *last.shape))[0]
        return contrast.masked_fill(last < last.amax(dim=-1, keepdim=True) + math.log(self.relative_top), -torch.inf)

    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        return self.model.new_cache(batch, capacity)


def divergence(logp: Float[Tensor, "*batch vocab"], logq: Float[Tensor, "*or_batch vocab"]) -> Float[Tensor, "*batch"]:
    """Jensen and Shannon's: ½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½ (p + q), in nats."""
    logm = torch.logaddexp(logp, logq) - math.log(2)
    return 0.5 * (logp.exp() * (logp - logm) + logq.exp() * (logq - logm)).sum(dim=-1)
