"""The way from features to the vocabulary, and the loss against it: as a value, since some heads never form all the logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.nn.cross_entropy import chunked_cross_entropy
from bloomery.nn.init import Draw, Initialised
from bloomery.nn.linear import Use
from bloomery.nn.part import Part


class HeadConfig(Part):
    """How features become predictions."""

    smooths: ClassVar[bool] = True
    """Whether its loss takes label smoothing."""

    def check_model(self, d_model: int, vocab_size: int) -> None:
        """Refuses sizes that it does not fit, via `self.refuse`; called when the model's config is built."""

    @abstractmethod
    def build(self, embedding: nn.Embedding) -> OutputHead:
        """The head for the vocabulary of an embedding table, reading features as wide as the table's rows."""

    def flops(self, d_model: int, vocab_size: int) -> float:
        """Floating-point operations of the forward pass per token: matrix products, a multiply-add as two."""
        return 2.0 * d_model * vocab_size


class TiedConfig(HeadConfig):
    """The embedding table is the head's matrix: fewer parameters, and better at small sizes.

    Source: Press and Wolf (2017), arXiv 1608.05859.
    """

    bias: bool = False
    """Whether each token has a bias."""
    softcap: Annotated[float, Gt(0)] | None = None
    """Logits are held below it by tanh; None leaves them free."""
    scale: Annotated[float, Gt(0)] = 1.0
    """Factor on the features before the product."""

    def build(self, embedding: nn.Embedding) -> TiedHead:
        return TiedHead(embedding, self.bias, self.softcap, self.scale)


class UntiedConfig(HeadConfig):
    """The head has a matrix of its own."""

    bias: bool = False
    """Whether each token has a bias."""
    softcap: Annotated[float, Gt(0)] | None = None
    """Logits are held below it by tanh; None leaves them free."""
    scale: Annotated[float, Gt(0)] = 1.0
    """Factor on the features before the product."""

    def build(self, embedding: nn.Embedding) -> UntiedHead:
        return UntiedHead(embedding.num_embeddings, embedding.embedding_dim, self.bias, self.softcap, self.scale)


class OutputHead(nn.Module, ABC):
    """From features to a distribution over the vocabulary."""

    @abstractmethod
    def forward(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of every token of the vocabulary."""

    @abstractmethod
    def cross_entropy(
        self, features: Float[Tensor, "n d_model"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"],
        label_smoothing: float = 0.0, z_loss: float = 0.0,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Σ weight·loss, differentiable, and Σ weight·nll, detached, of targets under the head; see `chunked_cross_entropy`."""


class LinearHead(OutputHead, Initialised):
    """logits = W · (scale · features) + b, held below a cap by cap·tanh(logits / cap) where there is one."""

    bias: nn.Parameter | None
    softcap: float | None
    scale: float

    @property
    @abstractmethod
    def matrix(self) -> Float[Tensor, "vocab d_model"]:
        """W, one row per token."""

    def _set(self, vocab_size: int, bias: bool, softcap: float | None, scale: float) -> None:
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        self.softcap, self.scale = softcap, scale

    def initialise(self, draw: Draw) -> None:
        """The matrix is drawn as a head's (a tied one as the table it is), the bias starts at 0."""
        if self.bias is not None:
            draw.fill(self.bias, 0.0)

    def forward(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        logits = self.linear(self._scaled(features))
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def linear(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """W · features + b."""
        return nn.functional.linear(features, self.matrix, self.bias)

    def cross_entropy(
        self, features: Float[Tensor, "n d_model"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"],
        label_smoothing: float = 0.0, z_loss: float = 0.0,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        return chunked_cross_entropy(
            self._scaled(features), self.matrix, targets, weights, label_smoothing, z_loss, bias=self.bias, softcap=self.softcap,
        )

    def _scaled(self, features: Tensor) -> Tensor:
        return features if self.scale == 1.0 else features * self.scale


class TiedHead(LinearHead):
    """A linear head whose matrix is an embedding table."""

    def __init__(self, embedding: nn.Embedding, bias: bool = False, softcap: float | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.embedding = embedding
        self._set(embedding.num_embeddings, bias, softcap, scale)

    @property
    def matrix(self) -> Float[Tensor, "vocab d_model"]:
        return self.embedding.weight


class UntiedHead(LinearHead):
    """A linear head with a matrix of its own, `weight`."""

    def __init__(self, vocab_size: int, d_model: int, bias: bool = False, softcap: float | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model))
        self._set(vocab_size, bias, softcap, scale)

    @property
    def matrix(self) -> Float[Tensor, "vocab d_model"]:
        return self.weight

    def initialise(self, draw: Draw) -> None:
        draw.matrix(self.weight, (Use.HEAD,))
        super().initialise(draw)
