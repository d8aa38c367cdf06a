"""The adaptive softmax: a head that spends little on rare tokens."""

from __future__ import annotations

import itertools
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.nn.cross_entropy import chunked_cross_entropy
from bloomery.nn.head import HeadConfig, OutputHead
from bloomery.nn.linear import Linear, Use


class AdaptiveSoftmaxConfig(HeadConfig):
    """See `AdaptiveHead`.

    Example:
        >>> TransformerConfig(vocab_size=50_000, head=AdaptiveSoftmaxConfig(cutoffs=(2_000, 10_000)), …)
    """

    smooths: ClassVar[bool] = False

    cutoffs: tuple[Annotated[int, Gt(0)], ...] = Field(min_length=1)
    """Where clusters begin: ids below the first are told apart at once, those from each cutoff to the next are a cluster."""
    shrink: Annotated[float, Gt(1)] = 4.0
    """Cluster i reads d_model / shrink^i features, i from 1."""
    bias: bool = False
    """Whether the frequent tokens and the clusters have biases; tokens in clusters have none."""

    def check(self) -> None:
        if list(self.cutoffs) != sorted(set(self.cutoffs)):
            raise self.refuse("cutoffs", "do not ascend; put them in order, each once")

    def check_model(self, d_model: int, vocab_size: int) -> None:
        if self.cutoffs[-1] >= vocab_size:
            raise self.refuse("cutoffs", f"leave no token of vocab_size={vocab_size} to the last cluster; keep them below {vocab_size}")
        if not self.widths(d_model)[-1]:
            raise self.refuse("shrink", f"leaves the last of {len(self.cutoffs)} clusters no feature of d_model={d_model}; lower it")

    def widths(self, d_model: int) -> list[int]:
        """Features that each cluster reads."""
        return [int(d_model // self.shrink**i) for i in range(1, len(self.cutoffs) + 1)]

    def build(self, embedding: nn.Embedding) -> AdaptiveHead:
        return AdaptiveHead(embedding.embedding_dim, embedding.num_embeddings, self)

    def flops(self, d_model: int, vocab_size: int) -> float:
        """Floating-point operations of the loss per token, where token r is as frequent as 1/(r + 1) (Zipf's law)."""
        total = 2.0 * d_model * (self.cutoffs[0] + len(self.cutoffs))
        by_rank = 1 / torch.arange(1, vocab_size + 1, dtype=torch.float64)
        for width, (low, high) in zip(self.widths(d_model), itertools.pairwise((*self.cutoffs, vocab_size)), strict=True):
            total += float(by_rank[low:high].sum() / by_rank.sum()) * 2.0 * width * (d_model + high - low)
        return total


class AdaptiveHead(OutputHead):
    """Frequent tokens and clusters of rare ones in one softmax; within each cluster another one, on fewer features.

        log p(y) = log softmax(W·x)[y]                                          for y < cutoffs[0]
        log p(y) = log softmax(W·x)[cluster of y] + log softmax(U_i·V_i·x)[y]   else

    Ids have to be in order of falling frequency. Those of a trained byte-pair vocabulary are, but for the bytes, which come first whether
    they are frequent or not; any other order is right as well, and slow.

    Parameters: top.weight (W: cutoffs[0] + clusters rows), clusters.<i>.narrow.weight (V_i) and clusters.<i>.tokens.weight (U_i).

    Args:
        d_model: width of the features.
        vocab_size: tokens.
        config: the clusters.

    Source: Grave et al. (2017), arXiv 1609.04309, as in `torch.nn.AdaptiveLogSoftmaxWithLoss`.
    """

    def __init__(self, d_model: int, vocab_size: int, config: AdaptiveSoftmaxConfig) -> None:
        super().__init__()
        config.check_model(d_model, vocab_size)
        bounds, widths = itertools.pairwise((*config.cutoffs, vocab_size)), config.widths(d_model)
        self.n_frequent = config.cutoffs[0]
        self.top = Linear(d_model, self.n_frequent + len(widths), Use.HEAD, config.bias)
        self.clusters = nn.ModuleList([Cluster(d_model, width, low, high) for width, (low, high) in zip(widths, bounds, strict=True)])

    def forward(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Log-probabilities, which serve as logits: their softmax is the distribution."""
        top = self.top(features).log_softmax(-1)
        frequent, of_clusters = top[..., : self.n_frequent], top[..., self.n_frequent :].split(1, dim=-1)
        within = [cluster(features).log_softmax(-1) for cluster in self.clusters]
        return torch.cat([frequent, *(one + rare for one, rare in zip(of_clusters, within, strict=True))], dim=-1)

    def cross_entropy(
        self, features: Float[Tensor, "n d_model"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"],
        label_smoothing: float = 0.0, z_loss: float = 0.0,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """As `OutputHead.cross_entropy`; z-loss is on each softmax that a target takes. Clusters are read where their tokens are targets.

        Raises:
            ConfigError: labels are to be smoothed, which would take all clusters everywhere.
        """
        if label_smoothing:
            raise ConfigError(f"label_smoothing={label_smoothing} spreads over tokens that AdaptiveSoftmaxConfig leaves out; set it to 0")
        classes, totals = targets, []
        for i, cluster in enumerate(self.clusters):
            assert isinstance(cluster, Cluster)
            within = (targets >= cluster.low) & (targets < cluster.high)
            classes = torch.where(within, self.n_frequent + i, classes)
            here = (within & (weights > 0)).nonzero()[:, 0]
            narrow, of_cluster = cluster.narrow(features[here]), targets[here] - cluster.low
            totals.append(chunked_cross_entropy(narrow, cluster.tokens.matrix, of_cluster, weights[here], 0.0, z_loss))
        totals.append(chunked_cross_entropy(features, self.top.matrix, classes, weights, 0.0, z_loss, bias=self.top.bias))
        total, nll = (torch.stack(values).sum() for values in zip(*totals, strict=True))
        return total, nll


class Cluster(nn.Module):
    """Logits of the tokens `low` to `high` − 1 by way of few features:  U · V · x."""

    def __init__(self, d_model: int, width: int, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.narrow = Linear(d_model, width, Use.OTHER)
        self.tokens = Linear(width, high - low, Use.HEAD)

    def forward(self, features: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch tokens"]:
        return self.tokens(self.narrow(features))
