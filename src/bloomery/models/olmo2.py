"""The OLMo 2 family: norms stand behind attention and feed-forward layers rather than before them, and queries and keys are normed.

    x ← x + RMSNorm(Attention(x));   x ← x + RMSNorm(SwiGLU(x));   q ← RMSNorm(W_q · x), k ← RMSNorm(W_k · x), all heads as one vector

Source: OLMo Team (2025), arXiv 2501.00656, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from bloomery.models.decoder import DecoderConfig
from bloomery.models.transformer import TransformerConfig
from bloomery.nn.block import BranchNorm
from bloomery.nn.rope import LinearScaling


class Olmo2Config(DecoderConfig):
    """Sizes of an OLMo 2. Those left out follow from the others, also after `replace`.

    Version 4 of transformers refuses any scaling of this family but a linear one; version 5 reads all that have a name there.
    """

    hub_type: ClassVar[str] = "olmo2"
    hub_architecture: ClassVar[str] = "Olmo2ForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({"attention_bias": "attention_bias"})
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_seq_len": 2048, "norm_eps": 1e-5, "tie_embeddings": False})
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({"hidden_act": ("silu",)})
    hub_norms: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"mixer_norm": "post_attention_layernorm", "ff_norm": "post_feedforward_layernorm"}
    )

    rope_theta: float = Field(default=500_000.0, gt=0)
    """Base of the rotary wavelengths."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square in the norms."""
    tie_embeddings: bool = False
    """Whether the head is the embedding table."""
    attention_bias: bool = False
    """Whether the four maps of attention have biases."""

    @property
    def transformer(self) -> TransformerConfig:
        bias = self.attention_bias
        attention = self.attention(qk_norm=self.norm, qk_norm_over="all", qkv_bias=bias, out_bias=bias)
        return self.stack(attention, placement=BranchNorm())

    def hub_rope(self) -> dict[str, Any]:
        rope = super().hub_rope()
        if isinstance(self.rope_scaling, LinearScaling):  # of which version 4 takes these two words alone
            rope["rope_scaling"] = {"type": "linear", "factor": self.rope_scaling.factor}
        return rope
