"""Heads for tasks, as values: what is told of each document, or of each token, from the states of a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.nn.feedforward import Activation
from bloomery.nn.head import HeadConfig, OutputHead
from bloomery.nn.layout import PADDING, SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.nn.part import Part
from bloomery.nn.pooling import FirstPoolingConfig, MeanPoolingConfig, PoolingConfig


class TaskHeadConfig(Part):
    """What is told, and by which name losses and labels call it."""

    name: str
    """Of the task; parameters are named after it."""

    def check(self) -> None:
        if not self.name.isidentifier() or hasattr(nn.ModuleDict, self.name):
            raise self.refuse("name", "cannot name parameters; give it letters, digits and underscores, 'task' say")

    @abstractmethod
    def build(self, d_model: int) -> TaskHead:
        """The head for states of this width."""

    @abstractmethod
    def flops(self, d_model: int) -> float:
        """Floating-point operations of the forward pass per token: matrix products, a multiply-add as two."""


class ScoringConfig(TaskHeadConfig):
    """A head that gives numbers: scores = W · v + b of the vector v of a document or a token."""

    bias: bool = True
    """Whether there is a b."""

    @property
    @abstractmethod
    def vector(self) -> PoolingConfig:
        """v."""

    @property
    @abstractmethod
    def n_scores(self) -> int:
        """Rows of W."""

    def build(self, d_model: int) -> ScoringHead:
        return ScoringHead(d_model, self)

    def flops(self, d_model: int) -> float:
        return self.vector.flops(d_model) + 2.0 * d_model * self.n_scores


class SequenceClassificationConfig(ScoringConfig):
    """Of which of several classes a document is: a logit for each, at its first place."""

    n_labels: int = Field(ge=2)
    """Classes; for one number rather than classes take `RegressionConfig`."""
    pooling: PoolingConfig = FirstPoolingConfig()
    """The document's vector."""

    @property
    def vector(self) -> PoolingConfig:
        return self.pooling

    @property
    def n_scores(self) -> int:
        return self.n_labels


class RegressionConfig(ScoringConfig):
    """One number for a document, at its first place."""

    pooling: PoolingConfig = FirstPoolingConfig()
    """The document's vector."""

    @property
    def vector(self) -> PoolingConfig:
        return self.pooling

    @property
    def n_scores(self) -> int:
        return 1


class MultipleChoiceConfig(RegressionConfig):
    """Which of several documents is the right one. The choices are documents of one row, one behind the other; at the first place of the
    first of them stands the logit of each. Ranking of candidates is the same head.

    Source: Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training", section 3.3; ranking: Liu et al. (2019),
    arXiv 1901.11504, section 3.
    """

    n_choices: int = Field(default=4, ge=2)
    """Choices of a question; where a row has fewer documents left, the logits of the missing ones are very low."""

    def build(self, d_model: int) -> ChoiceHead:
        return ChoiceHead(d_model, self)


class TokenClassificationConfig(ScoringConfig):
    """Of which of several classes each token is: a logit for each, at its place."""

    n_labels: int = Field(ge=2)
    """Classes."""

    @property
    def vector(self) -> PoolingConfig:
        return FirstPoolingConfig(activation=None)

    @property
    def n_scores(self) -> int:
        return self.n_labels


class ReplacedConfig(ScoringConfig):
    """Whether a token was put there by a generator: a logit, at its place.

    Source: Clark et al. (2020), arXiv 2003.10555, section 2.
    """

    name: str = "replaced"
    """Of the task; parameters are named after it."""
    activation: Activation = "gelu"
    """Behind a square map, before the scores."""

    @property
    def vector(self) -> PoolingConfig:
        return FirstPoolingConfig(activation=self.activation)

    @property
    def n_scores(self) -> int:
        return 1


class ValueConfig(ScoringConfig):
    """What a policy expects to earn from each token on: a number at its place.

    Source: Schulman et al. (2017), PPO, arXiv 1707.06347, section 5, for a policy and its value on shared states.
    """

    name: str = "value"
    """Of the task; parameters are named after it."""

    @property
    def vector(self) -> PoolingConfig:
        return FirstPoolingConfig(activation=None)

    @property
    def n_scores(self) -> int:
        return 1


class SimilarityConfig(TaskHeadConfig):
    """A vector for a document, at its first place: how alike two documents are is the product of theirs.

    Source: Reimers and Gurevych (2019), arXiv 1908.10084, section 3.
    """

    pooling: PoolingConfig = MeanPoolingConfig()
    """The document's vector."""
    normalise: bool = True
    """Whether vectors have length 1, so that products are cosines."""

    def build(self, d_model: int) -> SimilarityHead:
        return SimilarityHead(d_model, self)

    def flops(self, d_model: int) -> float:
        return self.pooling.flops(d_model)


class TaskHead(nn.Module):
    """From states to what a task asks for."""

    @abstractmethod
    def forward(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time n_scores"]:
        """Scores; what is told of a whole document stands at its first place, and at its others nothing of use."""


class ScoringHead(TaskHead):
    """See `ScoringConfig`."""

    def __init__(self, d_model: int, config: ScoringConfig) -> None:
        super().__init__()
        self.pooling = config.vector.build(d_model)
        self.out = Linear(d_model, config.n_scores, Use.HEAD, config.bias)

    def forward(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time n_scores"]:
        return self.out(self.pooling(states, layout))


class ChoiceHead(ScoringHead):
    """See `MultipleChoiceConfig`."""

    def __init__(self, d_model: int, config: MultipleChoiceConfig) -> None:
        super().__init__(d_model, config)
        self.n_choices = config.n_choices

    def forward(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time n_choices"]:
        scores = super().forward(states, layout)[:, :, 0]
        first = first_places(layout)
        number = first.cumsum(1)  # of the document that a place is in, from 1
        lowest = torch.finfo(scores.dtype).min  # not −∞, whose product with a weight of 0 is no number
        by_number = scores.new_full((scores.shape[0], scores.shape[1] + self.n_choices + 1), lowest)
        by_number = by_number.scatter(1, number * first, scores)  # what is not at a first place goes to slot 0, which is not read
        wanted = number.clamp(min=1)[:, :, None] + torch.arange(self.n_choices, device=scores.device)
        return by_number.gather(1, wanted.flatten(1)).view(wanted.shape)


class SimilarityHead(TaskHead):
    """See `SimilarityConfig`."""

    def __init__(self, d_model: int, config: SimilarityConfig) -> None:
        super().__init__()
        self.pooling = config.pooling.build(d_model)
        self.finish = partial(F.normalize, dim=-1) if config.normalise else nn.Identity()

    def forward(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        return self.finish(self.pooling(states, layout))


class NoHeadConfig(HeadConfig):
    """No way to the vocabulary: what remains of a model serves other heads."""

    def build(self, embedding: nn.Embedding) -> NoHead:
        return NoHead()

    def flops(self, d_model: int, vocab_size: int) -> float:
        return 0.0


class NoHead(OutputHead):
    """Raises `ConfigError` for whoever asks for predictions of tokens."""

    def forward(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        raise ConfigError("the model was built without its head for the vocabulary; give its TaskConfig language_head=True")

    def cross_entropy(
        self, features: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0, z_loss: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        return self(features)


@dataclass(frozen=True)
class HubTask:
    """How the hub lays out a model of ours with one more head, or with none.

    Attributes:
        head: ours, with any name and number of labels; None for the body alone.
        modules: of the head → their names there; each has a weight and (mostly) a bias.
        language_head: whether the way to the vocabulary is kept.
        prefix: of the names of the body, which this layout leaves out.
    """

    head: TaskHeadConfig | None
    modules: Mapping[str, str] = field(default_factory=dict)
    language_head: bool = False
    prefix: str = ""


def first_places(layout: SequenceLayout) -> Bool[Tensor, "batch time"]:
    """Where documents begin."""
    first = layout.positions == 0
    return first if layout.segments is None else first & (layout.segments != PADDING)
