"""Distillation of inner states: what another model has at some of its layers, where it looks, and which places it takes for alike."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from bloomery.core.errors import ConfigError
from bloomery.data.tasks import RowTask
from bloomery.models import ModelConfig, Transformer
from bloomery.nn.cross_entropy import exactly
from bloomery.nn.mixer import Looks
from bloomery.objectives.distil import FromTeacher
from bloomery.objectives.objective import Reading, Total, real_tokens

Layers = tuple[tuple[int, int], ...]
"""(layer of the student, layer of the teacher) each, from 0; −1, −2, … count from the last one."""


class InsideTeacher(FromTeacher):
    """What those have in common that look inside. The loss is the mean over the pairs of layers, and over tokens that are no padding."""

    looks_inside: ClassVar[bool] = True

    layers: Layers = Field(default=((-1, -1),), min_length=1)
    """Which layers are compared."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        for who, config, place in (("student", model, 0), ("teacher", self.teacher.architecture, 1)):
            if config is not None and (wrong := [pair for pair in self.layers if not -config.n_layers <= pair[place] < config.n_layers]):
                raise self.refuse("layers", f"names layer {wrong[0][place]} of the {who}, which has {config.n_layers}; take one below that")


class DistilHidden(InsideTeacher):
    """The residual stream behind some layers made that of a teacher's, which must be as wide:

        squared: mean over features of (h_S − h_T)²        cosine: 1 − cos(h_S, h_T)

    Source: Romero et al. (2015), FitNets, arXiv 1412.6550; cosine: Sanh et al. (2019), DistilBERT, arXiv 1910.01108. Departure: no map from
    the student's width to the teacher's; where they differ, `DistilSimilarity` needs none.
    """

    distance: Literal["squared", "cosine"] = "squared"
    """How they are compared."""

    def check_training(self, model: ModelConfig, task: RowTask) -> None:
        super().check_training(model, task)
        theirs = self.teacher.architecture
        if theirs is not None and theirs.d_model != model.d_model:
            raise ConfigError(f"DistilHidden.teacher has d_model={theirs.d_model}, and the model {model.d_model}; take DistilSimilarity, which "
                              "compares states of any width")  # fmt: skip

    def total(self, reading: Reading) -> Total:
        other, real = reading.beside(self.teacher), real_tokens(reading.batch)
        found = reading.features().new_zeros((), dtype=torch.float32)
        for ours, theirs in self.layers:
            a, b = exactly(_behind(reading, ours)), exactly(_behind(other, theirs))
            apart = (a - b).square().mean(-1) if self.distance == "squared" else 1 - F.cosine_similarity(a, b, dim=-1)
            found = found + torch.where(real, apart, 0.0).sum() / len(self.layers)
        return found, {"hidden_distance": found.detach()}


class DistilSimilarity(InsideTeacher):
    """Which tokens of a document a teacher takes for alike, whatever the widths:

        Σᵢ 1/n Σⱼ (G_S − G_T)ᵢⱼ²,   G = H·Hᵀ with rows of length 1, over the n tokens i, j of a document

    Source: Tung and Mori (2019), arXiv 1907.09682, equations 2 to 4. Departure: the tokens of a document in place of the images of a batch, so
    that the loss does not depend on how a batch is split.
    """

    def total(self, reading: Reading) -> Total:
        other, batch = reading.beside(self.teacher), reading.batch
        real, segments = real_tokens(batch), batch.layout.segments
        alike = real[:, :, None] & real[:, None]  # (batch, time, time): tokens of one document
        if segments is not None:
            alike = alike & (segments[:, :, None] == segments[:, None])
        n = alike.sum(-1).clamp(min=1)
        found = reading.features().new_zeros((), dtype=torch.float32)
        for ours, theirs in self.layers:
            a, b = (_similar(exactly(_behind(who, layer)), alike) for who, layer in ((reading, ours), (other, theirs)))
            found = found + ((a - b).square().sum(-1) / n).sum() / len(self.layers)
        return found, {"similarity_distance": found.detach()}


class DistilAttention(InsideTeacher):
    """Where a teacher looks: mean over heads of KL(A_T ‖ A_S) at each token, A its weights over what it may see. As many heads on both sides.

    Source: Wang et al. (2020), MiniLM, arXiv 2002.10957, equation 2; of several layers as in Jiao et al. (2019), TinyBERT, arXiv 1909.10351.
    """

    def total(self, reading: Reading) -> Total:
        other, real = reading.beside(self.teacher), real_tokens(reading.batch)
        found = reading.features().new_zeros((), dtype=torch.float32)
        for ours, theirs in self.layers:
            a, b = self._looks(reading, ours), self._looks(other, theirs)
            if a.weights.shape[1] != b.weights.shape[1]:
                raise ConfigError(f"DistilAttention.layers=({ours}, {theirs}): the model has {a.weights.shape[1]} heads there, and the teacher "
                                  f"{b.weights.shape[1]}; take layers of as many heads")  # fmt: skip
            seen = (a.seen & b.seen).expand_as(a.weights)
            p, q = (torch.where(seen, exactly(one.weights), 1.0).clamp(min=TINY) for one in (b, a))
            apart = torch.where(seen, p * (p / q).log(), 0.0).sum(-1).mean(1)  # (batch, time)
            found = found + torch.where(real, apart, 0.0).sum() / len(self.layers)
        return found, {"attention_distance": found.detach()}

    def _looks(self, reading: Reading, layer: int) -> Looks:
        model, seen = reading.models.policy, reading.seen()
        looks = None
        if isinstance(model, Transformer):
            looks = model.mixers[layer].looks(seen.mixer_inputs[layer], reading.batch.layout)
        if looks is None:
            raise ConfigError(f"DistilAttention.layers: layer {layer} of a {model.config.kind()} has no attention by its definition, whose "
                              "weights could be compared; take another layer, or DistilHidden")  # fmt: skip
        return looks


TINY = 1e-12  # of a weight of attention, so that its logarithm is finite


def _behind(reading: Reading, layer: int) -> Float[Tensor, "batch time d_model"]:
    """The residual stream behind a layer."""
    behind = reading.seen().hidden[1:]
    if not behind:
        raise ConfigError(f"a {reading.models.policy.config.kind()} does not tell its inner states; distil its logits by Distil")
    return behind[layer]


def _similar(states: Float[Tensor, "batch time d_model"], alike: Tensor) -> Float[Tensor, "batch time time"]:
    """H·Hᵀ within documents, each row of length 1."""
    return F.normalize(torch.where(alike, states @ states.mT, 0.0), dim=-1)
