"""The OLMoE family: Llama's blocks with many small experts, and with queries and keys normed, all heads as one vector.

Source: Muennighoff et al. (2024), arXiv 2409.02060.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from bloomery.models.decoder import DecoderConfig
from bloomery.models.mixtral import check_active, expert_parts
from bloomery.models.model import HubTensor
from bloomery.models.transformer import TransformerConfig
from bloomery.nn.experts import ExpertsConfig, SoftmaxRouterConfig
from bloomery.nn.feedforward import FeedForwardConfig


class OlmoeConfig(DecoderConfig):
    """Sizes of an OLMoE: those of a Llama, where `d_ff` is the width of each expert and `head_dim` is d_model / n_heads."""

    hub_type: ClassVar[str] = "olmoe"
    hub_architecture: ClassVar[str] = "OlmoeForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"n_experts": "num_experts", "n_active": "num_experts_per_tok", "renormalise": "norm_topk_prob", "attention_bias": "attention_bias"}
    )
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"max_seq_len": 4096, "norm_eps": 1e-5, "tie_embeddings": False, "n_experts": 64, "n_active": 8}
    )
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({"hidden_act": ("silu",), "clip_qkv": (None,)})

    n_experts: int = Field(gt=0)
    """Experts per layer."""
    n_active: int = Field(gt=0)
    """Experts that each token chooses."""
    renormalise: bool = False
    """Whether the weights of the chosen experts are scaled to add up to 1."""
    attention_bias: bool = False
    """Whether the four maps of attention have biases."""

    def check(self) -> None:
        super().check()
        if self.head_dim * self.n_heads != self.d_model:
            raise self.refuse("head_dim", f"is not d_model / n_heads = {self.d_model / self.n_heads:g}, which is all that an OLMoE can have")
        check_active(self, self.n_experts, self.n_active)

    @property
    def transformer(self) -> TransformerConfig:
        router = SoftmaxRouterConfig(renormalise=self.renormalise)
        experts = ExpertsConfig(n_experts=self.n_experts, n_active=self.n_active, d_ff=self.d_ff, router=router)
        biases = {"qkv_bias": self.attention_bias, "out_bias": self.attention_bias}
        return self.stack(self.attention(qk_norm=self.norm, qk_norm_over="all", **biases), feed_forwards=(experts,))

    def ff_parts(self, feed_forward: FeedForwardConfig | None, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
        return expert_parts(feed_forward, self.d_model, ours, theirs + "mlp.")
