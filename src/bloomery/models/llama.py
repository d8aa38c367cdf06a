"""The Llama family: pre-norm blocks of rotary grouped-query attention and SwiGLU, without biases.

    x ← x + Attention(RMSNorm(x));   x ← x + SwiGLU(RMSNorm(x));   logits = W_head · RMSNorm(x)

Source: Touvron et al. (2023), arXiv 2302.13971 and 2307.09288; grouped queries from the latter.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.models.model import HubTensor
from bloomery.models.transformer import NamedConfig, TransformerConfig
from bloomery.nn.attention import AttentionConfig, divisors, near
from bloomery.nn.feedforward import GatedConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.norms import RMSNormConfig
from bloomery.nn.positions import RotaryConfig


class LlamaConfig(NamedConfig):
    """Sizes of a Llama. Those left out follow from the others, also after `replace`."""

    hub_type: ClassVar[str] = "llama"
    hub_architecture: ClassVar[str] = "LlamaForCausalLM"

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of the residual stream."""
    n_layers: int = Field(gt=0)
    """Number of blocks."""
    n_heads: int = Field(gt=0)
    """Query heads per layer."""
    n_kv_heads: int = Field(gt=0, default_factory=lambda known: known["n_heads"])
    """Key-value heads per layer, a divisor of n_heads; as many as n_heads unless given."""
    head_dim: int = Field(gt=0, default_factory=lambda known: known["d_model"] // known["n_heads"])
    """Features per head, even; d_model / n_heads unless given."""
    d_ff: int = Field(gt=0, default_factory=lambda known: -(-8 * known["d_model"] // (3 * 64)) * 64)
    """Width of the feed-forward layer; unless given, 8/3 of d_model rounded up to a multiple of 64: as large as 4·d_model without a gate."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest sequence that the model can read, in tokens."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary wavelengths."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the mean square in the norms."""
    tie_embeddings: bool = True
    """Whether the head is the embedding table: fewer parameters, and better at small sizes."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if "head_dim" not in self.model_fields_set and self.d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={self.d_model}; {near(self.n_heads, divisors(self.d_model))} would")
        if self.head_dim % 2:
            blame = f"head_dim={self.head_dim}"
            if "head_dim" in self.model_fields_set:
                raise self.refuse("head_dim", f"is odd, and rotary positions turn pairs of features; {self.head_dim + 1} would do")
            even = [n for n in divisors(self.d_model) if self.d_model // n % 2 == 0]
            remedy = f"{near(self.n_heads, even)} heads would do" if even else f"d_model={self.d_model + 1} would do"
            raise self.refuse("n_heads", f"makes {blame}, which is odd, and rotary positions turn pairs of features; {remedy}")
        if self.n_heads % self.n_kv_heads:
            raise self.refuse("n_kv_heads", f"does not divide n_heads={self.n_heads}; {near(self.n_kv_heads, divisors(self.n_heads))} would")

    @property
    def transformer(self) -> TransformerConfig:
        attention = AttentionConfig(
            n_heads=self.n_heads, n_kv_heads=self.n_kv_heads, head_dim=self.head_dim, positions=RotaryConfig(theta=self.rope_theta),
        )
        return TransformerConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, max_seq_len=self.max_seq_len, mixers=(attention,),
            feed_forwards=(GatedConfig(d_ff=self.d_ff),), norm=RMSNormConfig(eps=self.norm_eps),
            head=TiedConfig() if self.tie_embeddings else UntiedConfig(), init=self.init,
        )

    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        d, q, kv, ff = self.d_model, self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim, self.d_ff
        parts: dict[str, tuple[HubTensor, ...]] = {"embedding.weight": (HubTensor("model.embed_tokens.weight", (self.vocab_size, d)),)}
        for i in range(self.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            parts[ours + "mixer_norm.weight"] = (HubTensor(theirs + "input_layernorm.weight", (d,)),)
            parts[ours + "mixer.qkv.weight"] = (
                HubTensor(theirs + "self_attn.q_proj.weight", (q, d)),
                HubTensor(theirs + "self_attn.k_proj.weight", (kv, d)),
                HubTensor(theirs + "self_attn.v_proj.weight", (kv, d)),
            )
            parts[ours + "mixer.out.weight"] = (HubTensor(theirs + "self_attn.o_proj.weight", (d, q)),)
            parts[ours + "ff_norm.weight"] = (HubTensor(theirs + "post_attention_layernorm.weight", (d,)),)
            parts[ours + "ff.gate_up.weight"] = (
                HubTensor(theirs + "mlp.gate_proj.weight", (ff, d)),
                HubTensor(theirs + "mlp.up_proj.weight", (ff, d)),
            )
            parts[ours + "ff.down.weight"] = (HubTensor(theirs + "mlp.down_proj.weight", (d, ff)),)
        parts["norm.weight"] = (HubTensor("model.norm.weight", (d,)),)
        if not self.tie_embeddings:
            parts["head.weight"] = (HubTensor("lm_head.weight", (self.vocab_size, d)),)
        return parts

    def hub_copies(self) -> set[str]:
        return {"lm_head.weight"} if self.tie_embeddings else set()

    def to_hub(self) -> dict[str, Any]:
        return {
            "architectures": [self.hub_architecture], "model_type": "llama", "dtype": "float32",
            "vocab_size": self.vocab_size, "hidden_size": self.d_model, "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers, "num_attention_heads": self.n_heads, "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim, "max_position_embeddings": self.max_seq_len, "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta, "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},  # version 4 and 5
            "tie_word_embeddings": self.tie_embeddings, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
            "initializer_range": self.init.embedding_std(self.d_model), "use_cache": True,
        }

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> LlamaConfig:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            if name not in plain:
                raise DataError(f"config.json has no {name!r}, without which the model has no shape; take it from the original checkpoint")
        for name, supported in {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu"}.items():
            if plain.get(name, supported) != supported:
                raise DataError(f"config.json has {name}={plain[name]!r}, which is not supported; the Llama here is built with {supported!r}")
        sizes = {"n_kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
        optional = {ours: plain[theirs] for ours, theirs in sizes.items() if plain.get(theirs) is not None}
        return cls(
            vocab_size=plain["vocab_size"], d_model=plain["hidden_size"], d_ff=plain["intermediate_size"], n_layers=plain["num_hidden_layers"],
            n_heads=plain["num_attention_heads"], max_seq_len=plain.get("max_position_embeddings", 2048), rope_theta=_rope_theta(plain),
            norm_eps=plain.get("rms_norm_eps", 1e-6), tie_embeddings=plain.get("tie_word_embeddings", False), **optional,
        )


def _rope_theta(plain: dict[str, Any]) -> float:
    """From `rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling` (4); anything but plain rotary positions is refused."""
    scaling = plain.get("rope_parameters") or plain.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise DataError(f"config.json asks for rope_type={kind!r}, which is not supported; use a checkpoint whose rope_type is 'default'")
    share = scaling.get("partial_rotary_factor", plain.get("partial_rotary_factor", 1.0))
    if share != 1.0:
        raise DataError(f"config.json has partial_rotary_factor={share}, which is not supported; all features of a head are turned here")
    return scaling.get("rope_theta", plain.get("rope_theta", 10_000.0))
