"""What every model family offers: `ModelConfig` says what it is and what it costs, `Model` predicts tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.core.config import Config
from bloomery.core.errors import ConfigError
from bloomery.models.heads import HubTask
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.head import OutputHead
from bloomery.nn.init import Fill, Pour, Rated, WeightInit, initialise
from bloomery.nn.layout import Passage, SequenceLayout
from bloomery.nn.seen import Seen


class ModelConfig(Config, ABC):
    """The architecture of a model: what it is made of and what it costs. Sizes left out follow from the others, also after `replace`."""

    if TYPE_CHECKING:  # fields of most; a model that is made of another one takes them from it

        @property
        def vocab_size(self) -> int:
            """Number of token ids."""
            ...

        @property
        def d_model(self) -> int:
            """Width of the residual stream."""
            ...

        @property
        def n_layers(self) -> int:
            """Number of blocks."""
            ...

        @property
        def max_seq_len(self) -> int:
            """The longest sequence that the model can read, in tokens."""
            ...

        @property
        def init(self) -> WeightInit:
            """What fresh weights are drawn from."""
            ...

    @property
    def reads_forward(self) -> bool:
        """Whether it predicts each token from those before it; an encoder reads both ways."""
        return True

    @property
    def reads_prefix(self) -> bool:
        """Whether the beginning of a document can be seen by all of it, itself included, while the rest is predicted token by token."""
        return self.reads_forward

    @property
    def reads_passage(self) -> bool:
        """Whether it writes about a passage that it is given beside the text: an encoder–decoder does, and needs one."""
        return False

    @abstractmethod
    def skeleton(self) -> Model:
        """The model with uninitialised weights, on torch's current device."""

    def build(self, seed: int) -> Any:
        """A model with fresh weights on the CPU in float32: the same for the same seed, whatever was drawn before.

        Args:
            seed: each parameter has its own stream, derived from it and the parameter's path.
        """
        model = self.blank()
        initialise(model, self.init, self.n_layers, seed)
        model.wire(self.init, seed)
        return model

    def blank(self) -> Any:
        """A model on the CPU, in float32, whose weights are whatever was there: to be filled with those of a file."""
        with torch.device("meta"):
            model = self.skeleton()
        return model.to_empty(device="cpu")

    @cached_property
    def n_params(self) -> int:
        """Number of trainable parameters; tied ones count once. Counted on a model without memory."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.skeleton().parameters() if parameter.requires_grad)

    @abstractmethod
    def flops_per_token(self, seq_len: int) -> float:
        """Floating-point operations of one training step, forward and backward, per token of rows of `seq_len` tokens."""

    @cached_property
    def fixed(self) -> frozenset[str]:
        """Names of the parameters that no step changes: those of a model on which an adapter is trained."""
        return frozenset()

    def stored(self) -> Stored:
        """How a training's model goes into files: as it is, unless that can be simpler."""
        return Stored(self, lambda name: [name], lambda name, wholes: wholes[name])


class OnBase:
    """What the config of a model that is made of another one, `base`, takes from that; inherited before `ModelConfig`."""

    if TYPE_CHECKING:  # a field of theirs

        @property
        def base(self) -> ModelConfig:
            """The other one."""
            ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.base.vocab_size

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.base.d_model

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.base.n_layers

    @property
    def max_seq_len(self) -> int:
        """The longest sequence that it can read, in tokens."""
        return self.base.max_seq_len

    @property
    def init(self) -> WeightInit:
        """What fresh weights are drawn from."""
        return self.base.init

    @property
    def reads_forward(self) -> bool:
        """Whether a token sees only what comes before it."""
        return self.base.reads_forward


@dataclass(frozen=True)
class Stored:
    """A model as files hold it.

    Attributes:
        config: what they say that it is.
        reads: names of the parameters that one of theirs is made of.
        make: one of theirs, from the whole tensors that `reads` names for it.
    """

    config: ModelConfig
    reads: Callable[[str], list[str]]
    make: Callable[[str, Mapping[str, Tensor]], Tensor]

    def filled(self, told: Fill) -> Fill:
        """What tells their parameters, each as soon as all that it is made of has been told.

        Args:
            told: tells the model's own.
        """
        with torch.device("meta"):
            reads = {name: self.reads(name) for name, _ in self.config.skeleton().named_parameters()}
        asked_by = {source: name for name, sources in reads.items() for source in sources}

        def fill(pour: Pour) -> None:
            waiting: dict[str, dict[str, Tensor]] = {name: {} for name in reads}

            def tell(source: str, whole: Tensor) -> None:
                name = asked_by[source]
                waiting[name][source] = whole
                if len(waiting[name]) == len(reads[name]):
                    pour(name, self.make(name, waiting.pop(name)))

            told(tell)

        return fill


@dataclass(frozen=True)
class HubTensor:
    """A tensor as checkpoints on the Hugging Face hub name it, its shape there, and whether it is ours with the last two axes swapped."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False


class ExportableConfig(ModelConfig):
    """A model that has names on the Hugging Face hub."""

    hub_optional_prefix: ClassVar[str] = ""
    """What the names of its tensors begin with, but in some checkpoints."""

    @abstractmethod
    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        """Our parameter → the hub tensors that it is made of: their numbers, one after the other, are ours, row by row."""

    def hub_copies(self) -> set[str]:
        """Names of hub tensors that only repeat others, or that we have no use for, and that are not read."""
        return set()

    @abstractmethod
    def to_hub(self) -> dict[str, Any]:
        """The `config.json` of a hub folder."""


class HubConfig(ExportableConfig):
    """A family that the Hugging Face hub knows: its names there, both ways."""

    hub_type: ClassVar[str]
    """The `model_type` of its `config.json`."""
    hub_architecture: ClassVar[str]
    """The class that reads such a model in the `transformers` library."""

    @classmethod
    @abstractmethod
    def from_hub(cls, plain: dict[str, Any]) -> HubConfig:
        """Reads the `config.json` of a hub folder; raises `DataError` naming whatever we don't support."""

    def hub_tasks(self) -> Mapping[str, HubTask]:
        """Other classes of the library → how they lay out such a model with another head, or with one more."""
        return {}


class Model(nn.Module, Rated, ABC):
    """A model that predicts tokens.

    `forward` is `unembed(features(…))`; a loss that never holds all logits at once takes the features and the `head` instead.
    """

    config: ModelConfig
    head: OutputHead

    @abstractmethod
    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, seen: Seen | None = None,
        passage: Passage | None = None,
    ) -> Float[Tensor, "batch time d_features"]:
        """What the head reads.

        Args:
            tokens: (batch, time) ids below vocab_size.
            layout: which tokens see which, and their positions below max_seq_len.
            cache: from `new_cache`, written to in place; `tokens` and `layout` are then of the new tokens only.
            seen: keeps inner states for whoever asks for them.
            passage: what an encoder–decoder's encoder reads; None for every other model.
        """

    def unembed(self, features: Float[Tensor, "*batch d_features"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of the vocabulary."""
        return self.head(features)

    def forward(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None, passage: Passage | None = None
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits at every place; the arguments are those of `features`."""
        return self.unembed(self.features(tokens, layout, cache, passage=passage))

    def wire(self, init: WeightInit, seed: int) -> None:
        """Lets an initialisation change weights across layers, once all are drawn."""

    @property
    def hidden_rate(self) -> float:
        return self.config.init.hidden_rate(self.config.d_model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class CausalModel(Model):
    """A model that predicts each token from those before it, and can be read on token by token."""

    @abstractmethod
    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        """An empty cache for `batch` rows of at most `capacity` tokens, on the model's device and in its precision."""


def causal(model: Model) -> CausalModel:
    """The model as one that can be read on token by token; raises `ConfigError` where it cannot."""
    if not (isinstance(model, CausalModel) and model.config.reads_forward):
        raise ConfigError(f"a {model.config.kind()} sees what comes after a token, so that it cannot write text; take a decoder")
    return model
