"""The Bamba family, a hybrid: in most layers a state (Mamba-2), in some a look back at all (attention); a gated feed-forward layer in each.

    x ← x + Mamba2 or Attention(RMSNorm(x));   x ← x + SwiGLU(RMSNorm(x));   logits = W_head · RMSNorm(x)

Rotary positions turn half of the features of the attention heads; the Mamba layers know places by what they have read.

Source: IBM, Princeton, CMU and UIUC (2024), "Bamba: Inference-efficient hybrid Mamba2 model", and its published code; Dao and Gu (2024),
arXiv 2405.21060, section 9.2.3, for the mix of layers.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge
from pydantic import Field

from bloomery.models.hub_fields import refuse_others, require
from bloomery.models.mamba2 import layer_parts, refuse_heads, steps_from_hub, steps_to_hub
from bloomery.models.model import HubTensor
from bloomery.models.transformer import NamedConfig, TransformerConfig
from bloomery.nn.attention import AttentionConfig
from bloomery.nn.feedforward import GatedConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.mamba2 import Mamba2Config
from bloomery.nn.norms import RMSNormConfig
from bloomery.nn.positions import RotaryConfig

ROTARY_SHARE = 0.5


class BambaConfig(NamedConfig):
    """Sizes of a Bamba. Those left out follow from the others, also after `replace`.

    Example:
        >>> BambaConfig(vocab_size=512, d_model=64, n_layers=4, attention_layers=(2,), n_heads=4, mamba=Mamba2Config(head_dim=32, d_state=32))
    """

    hub_type: ClassVar[str] = "bamba"
    hub_architecture: ClassVar[str] = "BambaForCausalLM"

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of the residual stream."""
    n_layers: int = Field(gt=0)
    """Number of blocks."""
    attention_layers: tuple[Annotated[int, Ge(0)], ...]
    """Which of them have attention, from 0, in rising order; the others have Mamba-2."""
    n_heads: int = Field(gt=0)
    """Query heads of the attention, d_model / n_heads wide."""
    n_kv_heads: int = Field(gt=0, default_factory=lambda known: known["n_heads"])
    """Key-value heads, a divisor of n_heads; as many as n_heads unless given."""
    mamba: Mamba2Config = Mamba2Config()
    """The Mamba-2 layers; their norm_eps is that of all norms."""
    d_ff: int = Field(gt=0, default_factory=lambda known: -(-8 * known["d_model"] // (3 * 64)) * 64)
    """Width of the feed-forward layers; unless given, 8/3 of d_model rounded up to a multiple of 64."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest sequence that the model can read, in tokens."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary wavelengths."""
    attention_bias: bool = False
    """Whether the maps of the attention have biases."""
    ff_bias: bool = False
    """Whether the maps of the feed-forward layers have biases."""
    tie_embeddings: bool = True
    """Whether the head is the embedding table."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if list(self.attention_layers) != sorted({*self.attention_layers} & {*range(self.n_layers)}):
            raise self.refuse("attention_layers", f"is not in rising order below n_layers={self.n_layers}; sort it, and name layers that exist")
        for mixer in (self.attention, self.mamba):
            mixer.check_model(self.d_model, self.max_seq_len)

    @property
    def attention(self) -> AttentionConfig:
        """That of the layers which have it."""
        return AttentionConfig(
            n_heads=self.n_heads, n_kv_heads=self.n_kv_heads, positions=RotaryConfig(theta=self.rope_theta, share=ROTARY_SHARE),
            qkv_bias=self.attention_bias, out_bias=self.attention_bias,
        )

    @property
    def transformer(self) -> TransformerConfig:
        mixers = tuple(self.attention if i in self.attention_layers else self.mamba for i in range(self.n_layers))
        return TransformerConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, max_seq_len=self.max_seq_len, mixers=mixers,
            feed_forwards=(GatedConfig(d_ff=self.d_ff, bias=self.ff_bias),), norm=RMSNormConfig(eps=self.mamba.norm_eps),
            head=TiedConfig() if self.tie_embeddings else UntiedConfig(), init=self.init,
        )

    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        d, ff = self.d_model, self.d_ff
        kv = self.n_kv_heads * (d // self.n_heads)
        parts: dict[str, tuple[HubTensor, ...]] = {"embedding.weight": (HubTensor("model.embed_tokens.weight", (self.vocab_size, d)),)}
        for i in range(self.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            parts[ours + "mixer_norm.weight"] = (HubTensor(theirs + "input_layernorm.weight", (d,)),)
            parts[ours + "ff_norm.weight"] = (HubTensor(theirs + "pre_ff_layernorm.weight", (d,)),)
            parts |= _linear(ours + "ff.gate_up", theirs + "feed_forward.", {"gate_proj": ff, "up_proj": ff}, d, self.ff_bias)
            parts |= _linear(ours + "ff.down", theirs + "feed_forward.", {"down_proj": d}, ff, self.ff_bias)
            if i in self.attention_layers:
                parts |= _linear(ours + "mixer.qkv", theirs + "self_attn.", {"q_proj": d, "k_proj": kv, "v_proj": kv}, d, self.attention_bias)
                parts |= _linear(ours + "mixer.out", theirs + "self_attn.", {"o_proj": d}, d, self.attention_bias)
            else:
                parts |= layer_parts(self.mamba, d, ours + "mixer.", theirs + "mamba.")
        parts["norm.weight"] = (HubTensor("model.final_layernorm.weight", (d,)),)
        if not self.tie_embeddings:
            parts["head.weight"] = (HubTensor("lm_head.weight", (self.vocab_size, d)),)
        return parts

    def hub_copies(self) -> set[str]:
        return {"lm_head.weight"} if self.tie_embeddings else set()

    def to_hub(self) -> dict[str, Any]:
        mamba = self.mamba
        rope = {"rope_type": "default", "rope_theta": self.rope_theta, "partial_rotary_factor": ROTARY_SHARE}
        return {
            "architectures": [self.hub_architecture], "model_type": "bamba", "dtype": "float32",
            "vocab_size": self.vocab_size, "hidden_size": self.d_model, "intermediate_size": self.d_ff, "num_hidden_layers": self.n_layers,
            "attn_layer_indices": list(self.attention_layers), "num_attention_heads": self.n_heads, "num_key_value_heads": self.n_kv_heads,
            "mamba_n_heads": mamba.n_heads(self.d_model), "mamba_d_head": mamba.head_dim, "mamba_n_groups": mamba.n_groups,
            "mamba_d_state": mamba.d_state, "mamba_d_conv": mamba.conv_width, "mamba_expand": mamba.expand, "mamba_chunk_size": mamba.chunk,
            "mamba_conv_bias": mamba.conv_bias, "mamba_proj_bias": mamba.bias, **steps_to_hub(mamba), "rms_norm_eps": mamba.norm_eps,
            "max_position_embeddings": self.max_seq_len, "rope_theta": self.rope_theta, "rope_parameters": rope,  # version 4 and 5
            "attention_bias": self.attention_bias, "mlp_bias": self.ff_bias, "tie_word_embeddings": self.tie_embeddings, "hidden_act": "silu",
            "initializer_range": self.init.embedding_std(self.d_model), "use_cache": True,
        }

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> BambaConfig:
        require(plain, "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        require(plain, "mamba_n_heads", "mamba_d_state")
        rope = plain.get("rope_parameters") or plain.get("rope_scaling") or {}
        turned = {"rope_type": rope.get("rope_type", rope.get("type")), "partial_rotary_factor": rope.get("partial_rotary_factor")}
        fixed = {"hidden_act": ("silu",), "rope_type": ("default",), "partial_rotary_factor": (ROTARY_SHARE,)}
        for asked in (plain, turned):
            refuse_others(asked, "Bamba", fixed | {"head_dim": (plain["hidden_size"] // plain["num_attention_heads"],)})
        expand, heads, head_dim = plain.get("mamba_expand", 2), plain["mamba_n_heads"], plain.get("mamba_d_head", "auto")
        mamba = Mamba2Config(
            expand=expand, head_dim=expand * plain["hidden_size"] // heads if head_dim == "auto" else head_dim, d_state=plain["mamba_d_state"],
            n_groups=plain.get("mamba_n_groups", 1), conv_width=plain.get("mamba_d_conv", 4), conv_bias=plain.get("mamba_conv_bias", True),
            bias=plain.get("mamba_proj_bias", False), chunk=plain.get("mamba_chunk_size", 256), norm_eps=plain.get("rms_norm_eps", 1e-5),
            **steps_from_hub(plain),
        )
        refuse_heads(plain, mamba, heads="mamba_n_heads", head_dim="mamba_d_head", expand="mamba_expand")
        return cls(
            vocab_size=plain["vocab_size"], d_model=plain["hidden_size"], d_ff=plain["intermediate_size"], n_layers=plain["num_hidden_layers"],
            attention_layers=tuple(sorted(plain.get("attn_layer_indices") or ())), n_heads=plain["num_attention_heads"],
            n_kv_heads=plain.get("num_key_value_heads", 8) or plain["num_attention_heads"], mamba=mamba,
            max_seq_len=plain.get("max_position_embeddings", 262_144), rope_theta=rope.get("rope_theta", plain.get("rope_theta", 10_000.0)),
            attention_bias=plain.get("attention_bias", False), ff_bias=plain.get("mlp_bias", False),
            tie_embeddings=plain.get("tie_word_embeddings", False),
        )


def _linear(ours: str, theirs: str, heights: dict[str, int], d_in: int, bias: bool) -> dict[str, tuple[HubTensor, ...]]:
    """A linear map of ours as one or several of theirs, by their names and heights."""
    parts = {ours + ".weight": tuple(HubTensor(f"{theirs}{name}.weight", (height, d_in)) for name, height in heights.items())}
    if bias:
        parts[ours + ".bias"] = tuple(HubTensor(f"{theirs}{name}.bias", (height,)) for name, height in heights.items())
    return parts
