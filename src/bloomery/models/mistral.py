"""The Mistral family: Llama's blocks, in which a token sees those within a window.

Source: Jiang et al. (2023), arXiv 2310.06825.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from bloomery.models.decoder import DecoderConfig
from bloomery.models.transformer import TransformerConfig


class MistralConfig(DecoderConfig):
    """Sizes of a Mistral. Those left out follow from the others, also after `replace`."""

    hub_type: ClassVar[str] = "mistral"
    hub_architecture: ClassVar[str] = "MistralForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({"window": "sliding_window"})
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"n_kv_heads": 8, "max_seq_len": 4096 * 32, "norm_eps": 1e-6, "tie_embeddings": False, "window": 4096}
    )
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({"hidden_act": ("silu",)})

    tie_embeddings: bool = False
    """Whether the head is the embedding table."""
    window: Annotated[int, Gt(0)] | None = 4096
    """A token sees those less than so many places away, itself included, in every layer; None sees all."""

    @property
    def transformer(self) -> TransformerConfig:
        return self.stack(self.attention(window=self.window))
