"""RoBERTa: BERT's architecture, trained longer and without a second task; its table of places begins with rows that are not used.

Source: Liu et al. (2019), arXiv 1907.11692. Departure: places count from the beginning of each document, whatever its tokens are; published
code skips tokens whose id is that of padding, which no document contains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from bloomery.models.encoders import EncoderConfig, Parts, map_parts, norm_parts
from bloomery.models.heads import HubTask, MultipleChoiceConfig, SequenceClassificationConfig, TokenClassificationConfig
from bloomery.models.model import HubTensor
from bloomery.nn.feedforward import Activation


class RobertaConfig(EncoderConfig):
    """Sizes of a RoBERTa; see `EncoderConfig`."""

    hub_type: ClassVar[str] = "roberta"
    hub_architecture: ClassVar[str] = "RobertaForMaskedLM"
    hub_prefix: ClassVar[str] = "roberta."

    n_parts: int = Field(default=1, gt=0)
    """Parts of a document that have vectors of their own (token types)."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance in the norms."""
    padding_id: int = Field(default=1, ge=0)
    """The tokenizer's id of padding. Published code counts places from the one behind it: the table begins with padding_id + 1 unused rows."""

    @property
    def unused_places(self) -> int:
        return self.padding_id + 1

    @property
    def transform_activation(self) -> Activation:
        return "gelu"

    def hub_head_parts(self) -> Parts:
        d = self.d_model
        return (
            map_parts("transform.dense", ("lm_head.dense",), d, d)
            | norm_parts("transform.norm", "lm_head.layer_norm", d)
            | {"head.bias": (HubTensor("lm_head.bias", (self.vocab_size,)),)}
        )

    def hub_copies(self) -> set[str]:
        unread = {f"roberta.pooler.dense.{one}" for one in ("weight", "bias")}
        return super().hub_copies() | {"lm_head.decoder.weight", "lm_head.decoder.bias"} | unread

    def to_hub(self) -> dict[str, Any]:
        return super().to_hub() | {"pad_token_id": self.padding_id}

    @classmethod
    def from_hub_more(cls, plain: dict[str, Any]) -> dict[str, Any]:
        padding_id = plain.get("pad_token_id", 1)
        return {"padding_id": padding_id, "max_seq_len": plain.get("max_position_embeddings", 512) - padding_id - 1}

    def hub_tasks(self) -> Mapping[str, HubTask]:
        label = SequenceClassificationConfig(name="label", n_labels=2)
        return {
            "RobertaForSequenceClassification": HubTask(label, {"pooling.dense": "classifier.dense", "out": "classifier.out_proj"}),
            "RobertaForTokenClassification": HubTask(TokenClassificationConfig(name="label", n_labels=2), {"out": "classifier"}),
            "RobertaForMultipleChoice": HubTask(
                MultipleChoiceConfig(name="choice"), {"pooling.dense": "roberta.pooler.dense", "out": "classifier"}
            ),
            "RobertaModel": HubTask(None, prefix="roberta."),
        }
