"""ELECTRA: a small generator fills in masked tokens, and a discriminator tells for every token whether it was replaced.

Source: Clark et al. (2020), arXiv 2003.10555, and its published code; departure: no dropout.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from bloomery.models.encoders import EncoderConfig, Parts, map_parts, norm_parts
from bloomery.models.model import HubTensor
from bloomery.nn.feedforward import Activation


class ElectraConfig(EncoderConfig):
    """Sizes of one of ELECTRA's two encoders, as a masked language model: the generator. See `EncoderConfig`."""

    hub_type: ClassVar[str] = "electra"
    hub_architecture: ClassVar[str] = "ElectraForMaskedLM"
    hub_prefix: ClassVar[str] = "electra."

    d_embedding: int = Field(gt=0, default_factory=lambda known: known["d_model"])
    """Width of the embedding table; a map widens it to d_model where it is another."""

    @property
    def embedding_width(self) -> int:
        return self.d_embedding

    @property
    def transform_activation(self) -> Activation:
        return "gelu"

    def hub_parts(self) -> Parts:
        widen = {} if self.d_embedding == self.d_model else map_parts("widen", ("electra.embeddings_project",), self.d_model, self.d_embedding)
        return super().hub_parts() | widen

    def hub_head_parts(self) -> Parts:
        return (
            map_parts("transform.dense", ("generator_predictions.dense",), self.d_embedding, self.d_model)
            | norm_parts("transform.norm", "generator_predictions.LayerNorm", self.d_embedding)
            | {"head.bias": (HubTensor("generator_lm_head.bias", (self.vocab_size,)),)}
        )

    def hub_copies(self) -> set[str]:
        return super().hub_copies() | {"generator_lm_head.weight"}

    def to_hub(self) -> dict[str, Any]:
        return super().to_hub() | {"embedding_size": self.d_embedding}

    @classmethod
    def from_hub_more(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return {"d_embedding": plain.get("embedding_size", 128)}
