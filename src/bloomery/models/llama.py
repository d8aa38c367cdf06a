"""The Llama family: pre-norm blocks of rotary grouped-query attention and SwiGLU, without biases.

    x ← x + Attention(RMSNorm(x));   x ← x + SwiGLU(RMSNorm(x));   logits = W_head · RMSNorm(x)

Source: Touvron et al. (2023), arXiv 2302.13971 and 2307.09288; grouped queries from the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from bloomery.models.decoder import DecoderConfig, refuse_uneven_heads
from bloomery.models.heads import HubTask, SequenceClassificationConfig
from bloomery.models.transformer import TransformerConfig
from bloomery.nn.pooling import LastPoolingConfig


class LlamaConfig(DecoderConfig):
    """Sizes of a Llama. Those left out follow from the others, also after `replace`."""

    hub_type: ClassVar[str] = "llama"
    hub_architecture: ClassVar[str] = "LlamaForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({"attention_bias": "attention_bias"})
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_seq_len": 2048, "norm_eps": 1e-6, "tie_embeddings": False})
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({"hidden_act": ("silu",), "mlp_bias": (False,)})

    attention_bias: bool = False
    """Whether the four maps of attention have biases."""

    @property
    def transformer(self) -> TransformerConfig:
        return self.stack(self.attention(qkv_bias=self.attention_bias, out_bias=self.attention_bias))

    def hub_tasks(self) -> Mapping[str, HubTask]:
        label = SequenceClassificationConfig(name="label", n_labels=2, pooling=LastPoolingConfig(), bias=False)
        return {"LlamaForSequenceClassification": HubTask(label, {"out": "score"})}

    def to_hub(self) -> dict[str, Any]:
        refuse_uneven_heads(self)
        return super().to_hub()
