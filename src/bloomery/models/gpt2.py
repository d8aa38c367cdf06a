"""The GPT-2 and GPT-3 families: pre-norm blocks with biases everywhere, learnt places, a head tied to the embedding.

    x = embedding + place;   x ← x + Attention(LayerNorm(x));   x ← x + W_down · GELU(W_up · LayerNorm(x) + b_up) + b_down

Source: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners"; Brown et al. (2020), arXiv 2005.14165. Departure: GELU
by its tanh approximation, as in the published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from bloomery.models.hub_fields import refuse_others, require
from bloomery.models.model import HubTensor
from bloomery.models.transformer import NamedConfig, TransformerConfig
from bloomery.nn.attention import AttentionConfig, divisors, near
from bloomery.nn.feedforward import PlainConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.norms import LayerNormConfig
from bloomery.nn.positions import LearnedPlacesConfig, NoPositionsConfig

NAMES: Mapping[str, str] = MappingProxyType({
    "vocab_size": "vocab_size", "d_model": "n_embd", "n_layers": "n_layer", "n_heads": "n_head", "d_ff": "n_inner",
    "max_seq_len": "n_positions", "norm_eps": "layer_norm_epsilon", "tie_embeddings": "tie_word_embeddings",
})  # fmt: skip
"""Our field → the hub's."""
DEFAULTS: Mapping[str, Any] = MappingProxyType({"max_seq_len": 1024})
"""Our field → what transformers takes where `config.json` is silent, if it is not what follows here as well."""
FIXED: Mapping[str, tuple[Any, ...]] = MappingProxyType({
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"), "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,),
})  # fmt: skip
"""The hub's field → what it may be; the first is written."""


class Gpt2Config(NamedConfig):
    """Sizes of a GPT-2. Those left out follow from the others, also after `replace`.

    Example:
        GPT-3 gives every other layer a window:

        >>> gpt3 = Gpt2Config(vocab_size=50257, d_model=768, n_layers=12, n_heads=12, max_seq_len=2048).transformer
        >>> (dense,) = gpt3.mixers
        >>> gpt3 = gpt3.replace(mixers=(dense, dense.replace(window=256)))
    """

    hub_type: ClassVar[str] = "gpt2"
    hub_architecture: ClassVar[str] = "GPT2LMHeadModel"
    hub_optional_prefix: ClassVar[str] = "transformer."

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of the residual stream."""
    n_layers: int = Field(gt=0)
    """Number of blocks."""
    n_heads: int = Field(gt=0)
    """Attention heads per layer, a divisor of d_model."""
    d_ff: int = Field(gt=0, default_factory=lambda known: 4 * known["d_model"])
    """Width of the feed-forward layer; 4·d_model unless given."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest sequence that the model can read, in tokens: it has a vector for each place."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance in the norms."""
    tie_embeddings: bool = True
    """Whether the head is the embedding table."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if self.d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={self.d_model}; {near(self.n_heads, divisors(self.d_model))} would")

    @property
    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, max_seq_len=self.max_seq_len,
            mixers=(AttentionConfig(n_heads=self.n_heads, positions=NoPositionsConfig(), qkv_bias=True, out_bias=True),),
            feed_forwards=(PlainConfig(d_ff=self.d_ff, activation="gelu_tanh"),), norm=LayerNormConfig(eps=self.norm_eps),
            places=LearnedPlacesConfig(), head=TiedConfig() if self.tie_embeddings else UntiedConfig(), init=self.init,
        )

    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        d, ff = self.d_model, self.d_ff
        parts: dict[str, tuple[HubTensor, ...]] = {
            "embedding.weight": (HubTensor("transformer.wte.weight", (self.vocab_size, d)),),
            "places.table.weight": (HubTensor("transformer.wpe.weight", (self.max_seq_len, d)),),
        }
        for i in range(self.n_layers):
            ours, theirs = f"blocks.{i}.", f"transformer.h.{i}."
            for norm, name in (("mixer_norm", "ln_1"), ("ff_norm", "ln_2")):
                parts |= {f"{ours}{norm}.{x}": (HubTensor(f"{theirs}{name}.{x}", (d,)),) for x in ("weight", "bias")}
            maps = {
                "mixer.qkv": ("attn.c_attn", d, 3 * d), "mixer.out": ("attn.c_proj", d, d), "ff.up": ("mlp.c_fc", d, ff),
                "ff.down": ("mlp.c_proj", ff, d),
            }  # fmt: skip
            for name, (their_name, d_in, d_out) in maps.items():
                parts[f"{ours}{name}.weight"] = (HubTensor(f"{theirs}{their_name}.weight", (d_in, d_out), transposed=True),)
                parts[f"{ours}{name}.bias"] = (HubTensor(f"{theirs}{their_name}.bias", (d_out,)),)
        parts |= {f"norm.{x}": (HubTensor(f"transformer.ln_f.{x}", (d,)),) for x in ("weight", "bias")}
        if not self.tie_embeddings:
            parts["head.weight"] = (HubTensor("lm_head.weight", (self.vocab_size, d)),)
        return parts

    def hub_copies(self) -> set[str]:
        masks = {f"transformer.h.{i}.attn.{name}" for i in range(self.n_layers) for name in ("bias", "masked_bias")}  # of old checkpoints
        return masks | ({"lm_head.weight"} if self.tie_embeddings else set())

    def to_hub(self) -> dict[str, Any]:
        return {
            "architectures": [self.hub_architecture], "model_type": self.hub_type, "dtype": "float32",
            **{theirs: getattr(self, ours) for ours, theirs in NAMES.items()}, **{name: values[0] for name, values in FIXED.items()},
            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
            "initializer_range": self.init.embedding_std(self.d_model), "use_cache": True,
        }  # fmt: skip

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> Gpt2Config:
        require(plain, "vocab_size", "n_embd", "n_layer", "n_head")
        refuse_others(plain, cls.kind(), FIXED)
        values = dict(DEFAULTS) | {ours: plain[theirs] for ours, theirs in NAMES.items() if plain.get(theirs) is not None}
        return cls(**values)
