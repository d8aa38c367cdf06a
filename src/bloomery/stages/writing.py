"""Trained models that only write: how their matrices and caches are kept, and what memory that takes before any of it is taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from bloomery.core.errors import ConfigError
from bloomery.core.units import human_bytes
from bloomery.generate import (
    Bfloat16Weights,
    CompiledWeights,
    FloatPast,
    Int4Weights,
    Int8Past,
    Int8Weights,
    Nf4Weights,
    PackedWeights,
    Past,
    Weights,
)
from bloomery.models.checkpoint import WEIGHTS as FILE
from bloomery.models.checkpoint import load_model, read_config
from bloomery.models.model import CausalModel, ModelConfig, causal
from bloomery.nn.head import TiedHead
from bloomery.stages.trained import opened, verified
from bloomery.store import Artifact

WEIGHTS: dict[str, Weights] = {
    "packed": PackedWeights(), "compiled": CompiledWeights(), "bfloat16": Bfloat16Weights(), "int8": Int8Weights(), "int4": Int4Weights(),
    "nf4": Nf4Weights(),
}  # fmt: skip
HEADER = 16 << 20  # bytes that names and shapes may take in a file of weights
PASTS: dict[str, Past] = {
    "float32": FloatPast(precision="float32"), "bfloat16": FloatPast(precision="bfloat16"), "int8": Int8Past(),
}  # fmt: skip


def writing(artifact: Artifact, device: str, weights: str | None = None, past: str | None = None) -> CausalModel:
    """The model of an artifact, its matrices and its caches kept as `WEIGHTS` and `PASTS` name it; packed if it is not said and they can be,
    and as its own numbers."""
    return kept(causal(opened(verified(artifact), device)), weights, past)


def kept(model: CausalModel, weights: str | None = None, past: str | None = None) -> CausalModel:
    """A model itself, changed, its matrices and its caches kept as `writing` says."""
    if weights is None:
        weights = "packed" if WEIGHTS["packed"].can(model) else "plain"
    model = model if weights == "plain" else WEIGHTS[weights].applied(model)
    return model if past is None else PASTS[past].applied(model)


@dataclass(frozen=True)
class Renewal:
    """How a served model is made anew with other weights.

    Attributes:
        config: of the model.
        device: that it is on.
        weights: see `writing`.
        past: see `writing`.
    """

    config: ModelConfig
    device: str
    weights: str | None = None
    past: str | None = None

    def __post_init__(self) -> None:
        if self.weights == "compiled":
            raise ConfigError("--weights compiled: its code would be written anew, for a minute, each time that weights come; leave it out")

    @cached_property
    def most_bytes(self) -> int:
        """Of a file of its weights, in float32, at most."""
        with torch.device("meta"):
            return 4 * sum(parameter.numel() for parameter in self.config.skeleton().parameters()) + HEADER

    def model(self, path: Path) -> CausalModel:
        """The model with the weights of a safetensors file; raises `ArtifactError` where they are another's."""
        model = self.config.blank()
        load_model(model, path)
        return kept(causal(model.to(self.device).eval()), self.weights, self.past)


@dataclass(frozen=True)
class Takes:
    """What a model that writes takes of memory, packed and with caches of its own numbers. States of recurrent layers are not counted.

    Attributes:
        weights: bytes of its file.
        again: bytes of the head, where that is packed and its table stays, too.
        place: bytes of what is kept of a token.
        places: tokens that there is room for.
    """

    weights: int
    again: int
    place: int
    places: int

    @property
    def total(self) -> int:
        """With all of its cache. A file's pages are mapped, and let go of where memory is wanted, so that packing needs no more."""
        return self.weights + self.again + self.place * self.places

    def __str__(self) -> str:
        weights, cache = human_bytes(self.weights + self.again), human_bytes(self.place * self.places)
        return f"weights {weights} + what it keeps of {self.places:,} tokens {cache} = {human_bytes(self.total)}"


def longest_of(artifact: Artifact) -> int:
    """Tokens that its model reads at most."""
    return read_config(artifact.path / "model").max_seq_len


def takes(artifact: Artifact, places: int) -> Takes:
    """What the model of an artifact takes to write; of its files only the config is read.

    Args:
        artifact: what a `Trained` has left.
        places: tokens that there is to be room for.

    Raises:
        ConfigError: it cannot write.
    """
    with torch.device("meta"):
        model = causal(read_config(artifact.path / "model").skeleton())
        one, two = (sum(slots.nbytes for slots in model.new_cache(1, n).slots) for n in (1, 2))
    again = model.head.matrix.nbytes if isinstance(model.head, TiedHead) else 0
    return Takes(artifact.manifest.files[f"model/{FILE}"].bytes, again, two - one, places)
