"""What Llama and the families that descend from it have in common: sizes, parts, and names on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from bloomery.models.hub_fields import refuse_others, require, rope_from_hub, rope_to_hub
from bloomery.models.model import HubTensor
from bloomery.models.transformer import NamedConfig, TransformerConfig
from bloomery.nn.attention import AttentionConfig, divisors, near
from bloomery.nn.feedforward import FeedForwardConfig, GatedConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.mixer import MixerConfig
from bloomery.nn.norms import RMSNormConfig
from bloomery.nn.positions import RotaryConfig
from bloomery.nn.rope import RopeScaling

NAMES: Mapping[str, str] = MappingProxyType({
    "vocab_size": "vocab_size", "d_model": "hidden_size", "d_ff": "intermediate_size", "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "head_dim": "head_dim", "max_seq_len": "max_position_embeddings",
    "norm_eps": "rms_norm_eps", "tie_embeddings": "tie_word_embeddings",
})  # fmt: skip
"""Our field → the hub's, in every one of these families."""
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
FOLLOWING = ("n_kv_heads", "head_dim")  # null on the hub leaves them to follow from the others


class DecoderConfig(NamedConfig):
    """Sizes of a decoder with rotary attention and gated feed-forward layers. Those left out follow from the others, also after `replace`."""

    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Our field → the hub's, beside `NAMES`."""
    hub_defaults: ClassVar[Mapping[str, Any]]
    """Our field → what transformers takes where `config.json` is silent; the others follow from the rest."""
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]]
    """The hub's field → what it may be; the first is written."""
    hub_norms: ClassVar[Mapping[str, str]] = MappingProxyType({"mixer_norm": "input_layernorm", "ff_norm": "post_attention_layernorm"})
    """Our norms of a block → the hub's."""

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
    rope_scaling: RopeScaling | None = None
    """How rotary positions are stretched over longer texts; None leaves them."""
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
        if self.rope_scaling is not None:
            self.transformer  # noqa: B018  builds the parts, which refuse what the scaling cannot be

    @property
    def norm(self) -> RMSNormConfig:
        """That of the blocks, and behind them."""
        return RMSNormConfig(eps=self.norm_eps)

    def attention(self, **parts: Any) -> AttentionConfig:
        """Rotary attention of these sizes; `parts` say what is different."""
        usual: dict[str, Any] = {
            "n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads, "head_dim": self.head_dim,
            "positions": RotaryConfig(theta=self.rope_theta, scaling=self.rope_scaling),
        }
        return AttentionConfig(**(usual | parts))

    def stack(self, *mixers: MixerConfig, **parts: Any) -> TransformerConfig:
        """Pre-norm blocks of these mixers and SwiGLU; `parts` say what is different."""
        usual: dict[str, Any] = {
            "vocab_size": self.vocab_size, "d_model": self.d_model, "n_layers": self.n_layers, "max_seq_len": self.max_seq_len,
            "mixers": mixers, "feed_forwards": (GatedConfig(d_ff=self.d_ff),), "norm": self.norm,
            "head": TiedConfig() if self.tie_embeddings else UntiedConfig(), "init": self.init,
        }
        return TransformerConfig(**(usual | parts))

    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        transformer, d = self.transformer, self.d_model
        parts: dict[str, tuple[HubTensor, ...]] = {"embedding.weight": (HubTensor("model.embed_tokens.weight", (self.vocab_size, d)),)}
        for i in range(self.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            parts |= {f"{ours}{norm}.weight": (HubTensor(f"{theirs}{name}.weight", (d,)),) for norm, name in self.hub_norms.items()}
            parts |= self.mixer_parts(transformer.mixer(i), ours + "mixer.", theirs + "self_attn.")
            parts |= self.ff_parts(transformer.feed_forward(i), ours + "ff.", theirs)
        parts["norm.weight"] = (HubTensor("model.norm.weight", (d,)),)
        if not self.tie_embeddings:
            parts["head.weight"] = (HubTensor("lm_head.weight", (self.vocab_size, d)),)
        return parts

    def mixer_parts(self, attention: MixerConfig, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
        """The names of a layer's attention; those that are given are what ours and theirs begin with, the last point included."""
        assert isinstance(attention, AttentionConfig)
        d, width = self.d_model, attention.width(self.d_model)
        heights = {"q": attention.n_heads * width, "k": attention.n_kv_heads * width, "v": attention.n_kv_heads * width}
        parts = {
            ours + "qkv.weight": tuple(HubTensor(f"{theirs}{x}_proj.weight", (height, d)) for x, height in heights.items()),
            ours + "out.weight": (HubTensor(theirs + "o_proj.weight", (d, heights["q"])),),
        }
        if attention.qkv_bias:
            parts[ours + "qkv.bias"] = tuple(HubTensor(f"{theirs}{x}_proj.bias", (height,)) for x, height in heights.items())
        if attention.out_bias:
            parts[ours + "out.bias"] = (HubTensor(theirs + "o_proj.bias", (d,)),)
        if attention.qk_norm is not None:
            for name, x in (("query", "q"), ("key", "k")):
                normed = heights[x] if attention.qk_norm_over == "all" else width
                parts[f"{ours}qk_norm.{name}.weight"] = (HubTensor(f"{theirs}{x}_norm.weight", (normed,)),)
        return parts

    def ff_parts(self, feed_forward: FeedForwardConfig | None, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
        """The names of a layer's feed-forward; "theirs" is that of the layer, since families differ in what comes behind."""
        assert isinstance(feed_forward, GatedConfig)
        return gated_parts(self.d_model, feed_forward.d_ff, ours, theirs + "mlp.")

    def hub_copies(self) -> set[str]:
        return {"lm_head.weight"} if self.tie_embeddings else set()

    def to_hub(self) -> dict[str, Any]:
        return {
            "architectures": [self.hub_architecture], "model_type": self.hub_type, "dtype": "float32",
            **{theirs: getattr(self, ours) for ours, theirs in {**NAMES, **self.hub_names}.items()},
            **self.hub_rope(),
            **{name: values[0] for name, values in self.hub_fixed.items()},
            "initializer_range": self.init.embedding_std(self.d_model), "use_cache": True,
        }

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> DecoderConfig:
        return cls(**cls.hub_values(plain))

    @classmethod
    def hub_values(cls, plain: dict[str, Any]) -> dict[str, Any]:
        """Our fields from a `config.json`; raises `DataError` naming whatever we don't support."""
        require(plain, *SIZES)
        refuse_others(plain, cls.kind(), cls.hub_fixed)
        values = dict(cls.hub_defaults) | {ours: plain[theirs] for ours, theirs in {**NAMES, **cls.hub_names}.items() if theirs in plain}
        values = {name: value for name, value in values.items() if value is not None or name not in FOLLOWING}
        return values | cls.hub_rope_values(plain, values["max_seq_len"])

    def hub_rope(self) -> dict[str, Any]:
        """The fields of a `config.json` that say how rotary positions turn."""
        return rope_to_hub(self.rope_theta, self.rope_scaling, self.head_dim)

    @classmethod
    def hub_rope_values(cls, plain: dict[str, Any], max_seq_len: int) -> dict[str, Any]:
        """Our fields from those."""
        theta, scaling = rope_from_hub(plain, max_seq_len)
        return {"rope_theta": theta, "rope_scaling": scaling}


def gated_parts(d_model: int, d_ff: int, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
    """The names of a gated feed-forward layer without biases; those that are given are what ours and theirs begin with."""
    return {
        ours + "gate_up.weight": tuple(HubTensor(f"{theirs}{name}_proj.weight", (d_ff, d_model)) for name in ("gate", "up")),
        ours + "down.weight": (HubTensor(theirs + "down_proj.weight", (d_model, d_ff)),),
    }


def refuse_uneven_heads(config: DecoderConfig) -> None:
    """Raises `ConfigError` where version 5 of transformers would: in some families heads must divide the width even with their own head_dim."""
    if config.d_model % config.n_heads:
        would = near(config.n_heads, divisors(config.d_model))
        raise config.refuse("n_heads", f"does not divide d_model={config.d_model}, which the hub's {config.hub_type} asks for; {would} would")
