"""What BERT and its descendants have in common: sizes, parts, and most of their names on the hub."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.models.hub_fields import refuse_others, require
from bloomery.models.model import HubTensor
from bloomery.models.transformer import NamedConfig, TransformConfig, TransformerConfig
from bloomery.nn.attention import AttentionConfig, divisors, near
from bloomery.nn.block import PostNorm
from bloomery.nn.feedforward import Activation, PlainConfig
from bloomery.nn.head import TiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.norms import LayerNormConfig
from bloomery.nn.positions import LearnedPlacesConfig, NoPositionsConfig

HUB_ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh",
})  # fmt: skip
"""Activations as configs on the hub name them; of several names the first is the one that is written."""

Parts = dict[str, tuple[HubTensor, ...]]

HUB_FIXED: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {"position_embedding_type": ("absolute",), "is_decoder": (False,), "tie_word_embeddings": (True,)}
)
"""Fields of `config.json` → what they may be."""


@dataclass(frozen=True)
class BlockNames:
    """The modules of one layer as a family names them on the hub; each has a weight and a bias."""

    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    mixer_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    ff_norm: str = "output.LayerNorm"


class EncoderConfig(NamedConfig):
    """Sizes of an encoder in BERT's manner: post-norm blocks with biases, learnt places, parts (token types), a transform before a tied head.

    Published training had dropout; there is none here: a model is the same function in training as after it. Weights are the same.
    """

    block_names: ClassVar[BlockNames] = BlockNames()
    hub_prefix: ClassVar[str]
    """Of all names on the hub but those of heads."""
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({})
    """Further fields of `config.json` → what they may be."""

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of the residual stream."""
    n_layers: int = Field(gt=0)
    """Number of blocks."""
    n_heads: int = Field(gt=0)
    """Heads per layer, a divisor of d_model."""
    d_ff: int = Field(gt=0, default_factory=lambda known: 4 * known["d_model"])
    """Width of the feed-forward layer; 4 · d_model unless given."""
    max_seq_len: int = Field(default=512, gt=0)
    """The longest document that the model can read, in tokens."""
    n_parts: int = Field(default=2, gt=0)
    """Parts of a document that have vectors of their own (token types)."""
    activation: Activation = "gelu"
    """In the feed-forward layers."""
    norm_eps: float = Field(default=1e-12, gt=0)
    """Added to the variance in the norms."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if self.d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={self.d_model}; {near(self.n_heads, divisors(self.d_model))} would")
        if self.activation not in HUB_ACTIVATIONS.values():
            raise self.refuse("activation", f"has no name on the hub; {' or '.join(dict.fromkeys(HUB_ACTIVATIONS.values()))} has")

    @property
    def embedding_width(self) -> int:
        """Width of the embedding table."""
        return self.d_model

    @property
    def unused_places(self) -> int:
        """Rows of the table of places before that of position 0."""
        return 0

    @property
    def distinct_layers(self) -> int | None:
        """Blocks that there are, where layers share them."""
        return None

    @property
    def transform_activation(self) -> Activation:
        """Before the head."""
        return self.activation

    @property
    def transformer(self) -> TransformerConfig:
        norm = LayerNormConfig(eps=self.norm_eps)
        attention = AttentionConfig(n_heads=self.n_heads, positions=NoPositionsConfig(), qkv_bias=True, out_bias=True)
        return TransformerConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, max_seq_len=self.max_seq_len, causal=False,
            mixers=(attention,), feed_forwards=(PlainConfig(d_ff=self.d_ff, activation=self.activation),),
            n_distinct_layers=self.distinct_layers, norm=norm, placement=PostNorm(), places=LearnedPlacesConfig(offset=self.unused_places),
            n_parts=self.n_parts, embedding_norm=norm, d_embedding=self.embedding_width,
            transform=TransformConfig(activation=self.transform_activation, norm=norm), head=TiedConfig(bias=True), init=self.init,
        )

    @abstractmethod
    def hub_head_parts(self) -> Parts:
        """The names of the transform and of the head's bias."""

    def hub_blocks(self) -> dict[int, str]:
        """The number of each layer that has weights of its own → the prefix of its names."""
        return {i: f"{self.hub_prefix}encoder.layer.{i}." for i in range(self.n_layers)}

    def hub_parts(self) -> Parts:
        d, width, embeddings = self.d_model, self.embedding_width, f"{self.hub_prefix}embeddings."
        parts: Parts = {
            "embedding.weight": (HubTensor(embeddings + "word_embeddings.weight", (self.vocab_size, width)),),
            "places.table.weight": (
                HubTensor(embeddings + "position_embeddings.weight", (self.max_seq_len + self.unused_places, width)),
            ),
            "parts.weight": (HubTensor(embeddings + "token_type_embeddings.weight", (self.n_parts, width)),),
        } | norm_parts("embedding_norm", embeddings + "LayerNorm", width)  # fmt: skip
        names = self.block_names
        for i, theirs in self.hub_blocks().items():
            ours = f"blocks.{i}."
            parts |= norm_parts(ours + "mixer_norm", theirs + names.mixer_norm, d)
            parts |= map_parts(ours + "mixer.qkv", (theirs + names.query, theirs + names.key, theirs + names.value), d, d)
            parts |= map_parts(ours + "mixer.out", (theirs + names.out,), d, d)
            parts |= norm_parts(ours + "ff_norm", theirs + names.ff_norm, d)
            parts |= map_parts(ours + "ff.up", (theirs + names.up,), self.d_ff, d)
            parts |= map_parts(ours + "ff.down", (theirs + names.down,), d, self.d_ff)
        return parts | self.hub_head_parts()

    def hub_copies(self) -> set[str]:
        return {f"{self.hub_prefix}embeddings.position_ids"}

    def to_hub(self) -> dict[str, Any]:
        name = next(theirs for theirs, ours in HUB_ACTIVATIONS.items() if ours == self.activation)
        return {
            "architectures": [self.hub_architecture], "model_type": self.hub_type, "dtype": "float32",
            "vocab_size": self.vocab_size, "hidden_size": self.d_model, "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers, "num_attention_heads": self.n_heads, "type_vocab_size": self.n_parts,
            "max_position_embeddings": self.max_seq_len + self.unused_places, "layer_norm_eps": self.norm_eps, "hidden_act": name,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "position_embedding_type": "absolute",
            "initializer_range": self.init.embedding_std(self.d_model), "tie_word_embeddings": True, "is_decoder": False,
        }  # fmt: skip

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> EncoderConfig:
        require(plain, "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        refuse_others(plain, cls.kind(), {**HUB_FIXED, **cls.hub_fixed})
        activation = plain.get("hidden_act", cls.hub_default_activation())
        if activation not in HUB_ACTIVATIONS:
            raise DataError(f"config.json has hidden_act={activation!r}, which is not supported; those that are: {', '.join(HUB_ACTIVATIONS)}")
        fields = {
            "vocab_size": plain["vocab_size"], "d_model": plain["hidden_size"], "d_ff": plain["intermediate_size"],
            "n_layers": plain["num_hidden_layers"], "n_heads": plain["num_attention_heads"], "n_parts": plain.get("type_vocab_size", 2),
            "max_seq_len": plain.get("max_position_embeddings", 512), "activation": HUB_ACTIVATIONS[activation],
            "norm_eps": plain.get("layer_norm_eps", 1e-12),
        }  # fmt: skip
        return cls(**(fields | cls.from_hub_more(plain)))

    @classmethod
    def hub_default_activation(cls) -> str:
        """What `hidden_act` is where `config.json` does not say."""
        return "gelu"

    @classmethod
    def from_hub_more(cls, plain: dict[str, Any]) -> dict[str, Any]:
        """Fields that this family has alone, or has otherwise."""
        return {}


def map_parts(ours: str, theirs: tuple[str, ...], rows: int, columns: int) -> Parts:
    """Weight and bias of a linear map that is one with us and several, each of so many rows and columns, on the hub."""
    return {
        f"{ours}.weight": tuple(HubTensor(f"{name}.weight", (rows, columns)) for name in theirs),
        f"{ours}.bias": tuple(HubTensor(f"{name}.bias", (rows,)) for name in theirs),
    }


def norm_parts(ours: str, theirs: str, width: int) -> Parts:
    """Weight and bias of a norm."""
    return {f"{ours}.{one}": (HubTensor(f"{theirs}.{one}", (width,)),) for one in ("weight", "bias")}
