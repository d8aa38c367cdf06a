"""ALBERT: BERT with a narrow embedding table that a map widens, and with layers that share their weights.

Source: Lan et al. (2020), arXiv 1909.11942, and its published code; departure: no dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from annotated_types import Gt
from pydantic import Field

from bloomery.models.encoders import BlockNames, EncoderConfig, Parts, map_parts, norm_parts
from bloomery.models.heads import HubTask, MultipleChoiceConfig, SequenceClassificationConfig, TokenClassificationConfig
from bloomery.models.model import HubTensor
from bloomery.nn.attention import divisors, near
from bloomery.nn.feedforward import Activation


class AlbertConfig(EncoderConfig):
    """Sizes of an ALBERT; see `EncoderConfig`."""

    hub_type: ClassVar[str] = "albert"
    hub_architecture: ClassVar[str] = "AlbertForMaskedLM"
    hub_prefix: ClassVar[str] = "albert."
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({"inner_group_num": (1,)})
    block_names: ClassVar[BlockNames] = BlockNames(
        "attention.query", "attention.key", "attention.value", "attention.dense", "attention.LayerNorm", "ffn", "ffn_output",
        "full_layer_layer_norm",
    )  # fmt: skip

    d_embedding: Annotated[int, Gt(0)] = 128
    """Width of the embedding table, other than d_model."""
    n_distinct_layers: int = Field(default=1, gt=0)
    """Blocks that there are, a divisor of n_layers; each is used for as many layers in a row."""
    activation: Activation = "gelu_tanh"
    """In the feed-forward layers and before the head."""

    def check(self) -> None:
        super().check()
        if self.n_layers % self.n_distinct_layers:
            remedy = f"{near(self.n_distinct_layers, divisors(self.n_layers))} would"
            raise self.refuse("n_distinct_layers", f"does not divide n_layers={self.n_layers}; {remedy}")
        if self.d_embedding == self.d_model:
            raise self.refuse("d_embedding", f"is d_model, and a map leads from one to the other; {self.d_model // 2 or 2} would do")

    @property
    def embedding_width(self) -> int:
        return self.d_embedding

    @property
    def distinct_layers(self) -> int | None:
        return self.n_distinct_layers

    def hub_blocks(self) -> dict[int, str]:
        each = self.n_layers // self.n_distinct_layers
        return {i * each: f"albert.encoder.albert_layer_groups.{i}.albert_layers.0." for i in range(self.n_distinct_layers)}

    def hub_parts(self) -> Parts:
        return super().hub_parts() | map_parts("widen", ("albert.encoder.embedding_hidden_mapping_in",), self.d_model, self.d_embedding)

    def hub_head_parts(self) -> Parts:
        return (
            map_parts("transform.dense", ("predictions.dense",), self.d_embedding, self.d_model)
            | norm_parts("transform.norm", "predictions.LayerNorm", self.d_embedding)
            | {"head.bias": (HubTensor("predictions.bias", (self.vocab_size,)),)}
        )

    def hub_copies(self) -> set[str]:
        unread = {f"{name}.{one}" for name in ("albert.pooler", "sop_classifier.classifier") for one in ("weight", "bias")}
        return super().hub_copies() | {"predictions.decoder.weight", "predictions.decoder.bias"} | unread

    def to_hub(self) -> dict[str, Any]:
        groups = {"num_hidden_groups": self.n_distinct_layers, "inner_group_num": 1, "embedding_size": self.d_embedding}
        return super().to_hub() | groups | {"classifier_dropout_prob": 0.0}

    @classmethod
    def hub_default_activation(cls) -> str:
        return "gelu_new"

    @classmethod
    def from_hub_more(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return {"d_embedding": plain.get("embedding_size", 128), "n_distinct_layers": plain.get("num_hidden_groups", 1)}

    def hub_tasks(self) -> Mapping[str, HubTask]:
        label, pooler = SequenceClassificationConfig(name="label", n_labels=2), {"pooling.dense": "albert.pooler"}
        return {
            "AlbertForSequenceClassification": HubTask(label, pooler | {"out": "classifier"}),
            "AlbertForTokenClassification": HubTask(TokenClassificationConfig(name="label", n_labels=2), {"out": "classifier"}),
            "AlbertForMultipleChoice": HubTask(MultipleChoiceConfig(name="choice"), pooler | {"out": "classifier"}),
            "AlbertForPreTraining": HubTask(label, pooler | {"out": "sop_classifier.classifier"}, language_head=True),
            "AlbertModel": HubTask(None, prefix="albert."),
        }
