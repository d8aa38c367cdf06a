"""Several trained models that predict as one: the mean of their logits, or of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.models.adapted import beneath
from bloomery.models.heads import (
    MultipleChoiceConfig,
    SequenceClassificationConfig,
    SimilarityConfig,
    TaskHeadConfig,
    TokenClassificationConfig,
)
from bloomery.models.model import CausalModel, Model, ModelConfig, causal
from bloomery.models.tasks import TaskConfig, TaskModel
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.chunked import logits_by_chunk
from bloomery.nn.head import OutputHead
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.seen import Seen

Mean = Literal["logits", "probabilities"]

CLASSES = (SequenceClassificationConfig, TokenClassificationConfig, MultipleChoiceConfig)  # heads whose scores are logits of one choice


class EnsembleConfig(ModelConfig):
    """Models that read the same tokens and are asked together. They may be of different sizes and, for labels, of different families.

        logits:         z = Σ zᵢ / n
        probabilities:  z = log(Σ softmax(zᵢ) / n)

    Of heads that give numbers instead of classes it is the numbers that are averaged, either way; vectors of documents, which mean nothing to
    each other, stand one behind the other, over √n, so that their products are the mean of the members'. One model by itself is left as it is.

    Source: Hansen and Salamon (1990), doi:10.1109/34.58871; probabilities as in Lakshminarayanan et al. (2017), arXiv 1612.01474, section 2.4.
    """

    members: tuple[ModelConfig, ...] = Field(min_length=1)
    """The models."""
    mean: Mean = "probabilities"
    """Of what."""
    shared: tuple[str, ...] = ()
    """Names of weights that are the same in all members, as those of a base that they did not change; they are kept once."""

    def check(self) -> None:
        first = self.members[0]
        for other in self.members[1:]:
            for what in ("vocab_size", "reads_forward"):
                if getattr(other, what) != getattr(first, what):
                    raise ConfigError(f"EnsembleConfig.members have {what}={getattr(first, what)} and {getattr(other, what)}; only models "
                                      "that read the same tokens the same way can be asked together")  # fmt: skip
            if [head.kind() for head in heads_of(other)] != [head.kind() for head in heads_of(first)] or _shapes(other) != _shapes(first):
                raise ConfigError(f"EnsembleConfig.members have the heads {list(map(str, heads_of(first)))} and "
                                  f"{list(map(str, heads_of(other)))}; give them the same")  # fmt: skip
            if not heads_of(first) and other.d_model != first.d_model:
                raise ConfigError(f"EnsembleConfig.members have d_model={first.d_model} and {other.d_model}; for the vocabulary it must be one")
        if any(member.reads_passage for member in self.members):
            raise ConfigError("EnsembleConfig.members read a passage, for which there are no ensembles yet; take decoders or encoders")

    @property
    def heads(self) -> tuple[TaskHeadConfig, ...]:
        """What all members tell."""
        return heads_of(self.members[0])

    @property
    def vocab_size(self) -> int:
        return self.members[0].vocab_size

    @property
    def d_model(self) -> int:
        return self.members[0].d_model

    @property
    def n_layers(self) -> int:
        return max(member.n_layers for member in self.members)

    @property
    def max_seq_len(self) -> int:
        return min(member.max_seq_len for member in self.members)

    @property
    def reads_forward(self) -> bool:
        return self.members[0].reads_forward

    def skeleton(self) -> EnsembleModel:
        return EnsembleModel(self, [member.skeleton() for member in self.members])

    def build(self, seed: int) -> Any:
        return EnsembleModel(self, [member.build(seed) for member in self.members])

    def blank(self) -> Any:
        return EnsembleModel(self, [member.blank() for member in self.members])

    def flops_per_token(self, seq_len: int) -> float:
        return sum(member.flops_per_token(seq_len) for member in self.members)


class EnsembleModel(CausalModel):
    """See `EnsembleConfig`. Its features are those of its members, one behind the other. Parameters: members.0.…, members.1.…"""

    def __init__(self, config: EnsembleConfig, members: Sequence[Model]) -> None:
        super().__init__()
        self.config: ModelConfig = config
        self.mean: Mean = config.mean
        self.members = nn.ModuleList(members)
        for name in config.shared:
            path, _, own = name.rpartition(".")
            one = members[0].get_parameter(name)
            for member in members[1:]:
                setattr(member.get_submodule(path), own, one)
        self.head = MeanHead([member.head for member in members], config.mean)

    @property
    def models(self) -> list[Model]:
        """The members."""
        return [member for member in self.members if isinstance(member, Model)]

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        if seen is not None:
            raise ConfigError("an ensemble has no inner states of its own; look into one of its members")
        caches = cache.layers if isinstance(cache, LayeredCache) else [None] * len(self.members)
        return torch.cat([member.features(tokens, layout, own) for member, own in zip(self.models, caches, strict=True)], -1)

    def scores(self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout) -> dict[str, Tensor]:
        """What the heads of all members make of the tokens together: (batch, time, n_scores); see `TaskModel.scores`."""
        config = self.config
        assert isinstance(config, EnsembleConfig)
        told = [member.scores(tokens, layout) for member in self.models if isinstance(member, TaskModel)]
        return {head.name: self._together(head, [one[head.name] for one in told]) for head in config.heads}

    def _together(self, head: TaskHeadConfig, scores: Sequence[Tensor]) -> Tensor:
        if isinstance(head, SimilarityConfig):
            return torch.cat(list(scores), -1) / math.sqrt(len(scores))
        return mean_of(scores, self.mean if isinstance(head, CLASSES) else "logits")

    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        return LayeredCache([causal(member).new_cache(batch, capacity) for member in self.models])


class MeanHead(OutputHead):
    """The mean of what several heads say, each of its part of the features. It is asked, and not trained."""

    def __init__(self, heads: Sequence[OutputHead], mean: Mean) -> None:
        super().__init__()
        self.heads = tuple(heads)  # no modules of its own: their parameters are named by the members that have them
        self.mean = mean

    def forward(self, features: Float[Tensor, "*batch d_features"]) -> Float[Tensor, "*batch vocab"]:
        parts = features.chunk(len(self.heads), -1)
        return mean_of([head(part) for head, part in zip(self.heads, parts, strict=True)], self.mean)

    def cross_entropy(
        self, features: Float[Tensor, "n d_features"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"],
        label_smoothing: float = 0.0, z_loss: float = 0.0,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        total, nll = weights.new_zeros(()), weights.new_zeros(())
        for part, logits in logits_by_chunk(self, features):
            of, weight = logits.float(), weights[part]
            loss = F.cross_entropy(of, targets[part], reduction="none", label_smoothing=label_smoothing)
            total = total + (weight * (loss + z_loss * of.logsumexp(-1) ** 2)).sum()
            nll = nll + (weight * F.cross_entropy(of, targets[part], reduction="none")).sum().detach()
        return total, nll


def mean_of(scores: Sequence[Float[Tensor, "*batch n_scores"]], mean: Mean) -> Float[Tensor, "*batch n_scores"]:
    """The mean of the scores of several models, as logits; a single one's are left as they are.

    Args:
        scores: of each, of one shape.
        mean: of the logits, or of the probabilities.
    """
    if len(scores) == 1:
        return scores[0]
    if mean == "logits":
        return torch.stack(list(scores)).mean(0)
    return torch.stack([one.log_softmax(-1) for one in scores]).logsumexp(0) - math.log(len(scores))


def heads_of(config: ModelConfig) -> tuple[TaskHeadConfig, ...]:
    """The heads for tasks of a model."""
    config = beneath(config)
    return config.heads if isinstance(config, TaskConfig | EnsembleConfig) else ()


def heads_by_name(config: ModelConfig) -> dict[str, TaskHeadConfig]:
    """The same, by their names."""
    return {head.name: head for head in heads_of(config)}


def _shapes(config: ModelConfig) -> list[tuple[str, object]]:
    """The names of the heads, and how many classes or choices they tell."""
    return [(head.name, getattr(head, "n_labels", getattr(head, "n_choices", None))) for head in heads_of(config)]
