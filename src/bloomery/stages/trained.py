"""`Trained`: what every stage is that leaves a model, so that others can go on from it, ask it or write it out."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from bloomery.core.config import Config
from bloomery.models import Model, ModelConfig, read_model
from bloomery.nn.adapters import Adapter
from bloomery.objectives import Frozen
from bloomery.stages.stage import Stage
from bloomery.stages.tokenizer import LoadTokenizer, TrainTokenizer
from bloomery.store import Artifact
from bloomery.text.tokenizer import Tokenizer


def verified(trained: Artifact) -> Artifact:
    """It, once the checksums of its model and tokenizer are compared; raises where one differs."""
    trained.verify("model/", "tokenizer/")
    return trained


def opened(trained: Artifact, device: str) -> Model:
    """The model that a `Trained` has left, on a device, in the state in which models are asked."""
    return read_model(trained.path / "model")[1].to(device).eval()


def tokenizer_of(trained: Artifact) -> Tokenizer:
    """Its tokenizer."""
    return Tokenizer.load(trained.checked("tokenizer/tokenizer.json"))


class Tuning(NamedTuple):
    """What a training of an adapter starts from.

    Attributes:
        init: the `Init` of the model that the adapter is on.
        adapter: what is trained.
        seed: of what is fresh.
    """

    init: Config
    adapter: Adapter
    seed: int


class Trained(Stage, Frozen):
    """A stage whose artifact holds a model and its tokenizer. A loss can look back at it, or learn from it, as it stands.

        model/           config.json, model.safetensors
        tokenizer/       tokenizer.json
    """

    @property
    @abstractmethod
    def architecture(self) -> ModelConfig | None:
        """The model, as far as it is known before anything is run."""

    @property
    @abstractmethod
    def vocabulary(self) -> TrainTokenizer | LoadTokenizer:
        """The stage that made its tokenizer."""

    @property
    def peak_rate(self) -> float | None:
        """The highest learning rate that its weights were trained at; None where that is not known."""
        return None

    @property
    def tuning(self) -> Tuning | None:
        """The adapter that it trains, and on what; None where it trains none."""
        return None
