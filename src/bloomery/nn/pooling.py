"""From the states of a document's tokens to one vector for the document, as a value.

A document's vector stands at its first place, so that rows of packed documents need no other shape than they have.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bloomery.nn.feedforward import Activation, activation_function
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.linear import Linear, Use
from bloomery.nn.part import Part


class PoolingConfig(Part):
    """Which vector stands for a document."""

    activation: Activation | None = None
    """Behind a square map of that vector; None for the vector as it is."""

    def build(self, d_model: int) -> Pooling:
        """The module for states of this width."""
        return Pooling(d_model, self.activation)

    def flops(self, d_model: int) -> float:
        """Floating-point operations of the forward pass per token: products with matrices of weights, a multiply-add as two."""
        return 0.0 if self.activation is None else 2.0 * d_model**2


class FirstPoolingConfig(PoolingConfig):
    """The vector of its first token; through a map and tanh, as BERT has it, unless told otherwise.

    Source: Devlin et al. (2019), arXiv 1810.04805, section 4.1 and its published code.
    """

    activation: Activation | None = "tanh"
    """Behind a square map of that vector; None for the vector as it is."""


class MeanPoolingConfig(PoolingConfig):
    """The mean of the vectors of all its tokens.

    Source: Reimers and Gurevych (2019), arXiv 1908.10084, section 3.
    """

    def build(self, d_model: int) -> MeanPooling:
        return MeanPooling(d_model, self.activation)


class LastPoolingConfig(PoolingConfig):
    """The vector of its last token, which is the only one that has seen them all in a model that reads forward.

    Source: Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training", section 3.2.
    """

    def build(self, d_model: int) -> LastPooling:
        return LastPooling(d_model, self.activation)


class Pooling(nn.Module):
    """activation(W · v + b) of the vector v at each place itself: of a document at its first, and of any token by itself.

    Args:
        d_model: width of the states.
        activation: None leaves v as it is.
    """

    def __init__(self, d_model: int, activation: Activation | None) -> None:
        super().__init__()
        self.dense = nn.Identity() if activation is None else Linear(d_model, d_model, Use.OTHER, bias=True)
        self.activation = nn.Identity() if activation is None else activation_function(activation)

    def forward(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        """At the first place of each document, the vector that stands for it."""
        return self.activation(self.dense(self.pick(states, layout)))

    def pick(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        """v for each place."""
        return states


class MeanPooling(Pooling):
    """`Pooling` with the mean over a place's document for v."""

    def pick(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        if layout.segments is None:
            return states.mean(1, keepdim=True).expand_as(states)
        same = same_document(layout)
        return (same / same.sum(-1, keepdim=True)).type_as(states) @ states


class LastPooling(Pooling):
    """`Pooling` with the last vector of a place's document for v."""

    def pick(self, states: Float[Tensor, "batch time d_model"], layout: SequenceLayout) -> Float[Tensor, "batch time d_model"]:
        if layout.segments is None:
            return states[:, -1:].expand_as(states)
        places = torch.arange(states.shape[1], device=states.device)
        last = (same_document(layout) * places).amax(-1)  # (batch, time)
        return states.gather(1, last[:, :, None].expand_as(states))


def same_document(layout: SequenceLayout) -> Bool[Tensor, "batch time time"]:
    """Which places are of one document; of rows with segments."""
    assert layout.segments is not None
    return layout.segments[:, :, None] == layout.segments[:, None, :]
