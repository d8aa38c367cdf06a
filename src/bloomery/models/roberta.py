"""RoBERTa: BERT's architecture, trained longer and without a second task; its table of places begins with two rows that stand for padding.

Source: Liu et al. (2019), arXiv 1907.11692. Departure: places count from the beginning of each document, whatever its tokens are; published
code skips tokens whose id is that of padding, which no document contains.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from bloomery.models.encoders import EncoderConfig, Parts, map_parts, norm_parts
from bloomery.models.model import HubTensor
from bloomery.nn.feedforward import Activation

PADDING_ID = 1  # of published vocabularies, which the number of unused places follows from


class RobertaConfig(EncoderConfig):
    """Sizes of a RoBERTa; see `EncoderConfig`."""

    hub_type: ClassVar[str] = "roberta"
    hub_architecture: ClassVar[str] = "RobertaForMaskedLM"
    hub_prefix: ClassVar[str] = "roberta."
    hub_extra_places: ClassVar[int] = PADDING_ID + 1

    n_parts: int = Field(default=1, gt=0)
    """Parts of a document that have vectors of their own (token types)."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance in the norms."""

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
        return super().to_hub() | {"pad_token_id": PADDING_ID}

    @classmethod
    def hub_fixed(cls) -> dict[str, Any]:
        return {"pad_token_id": PADDING_ID}
