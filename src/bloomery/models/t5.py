"""The T5 family: an encoder–decoder of pre-norm blocks without biases, whose attention knows places by buckets of distances alone.

    encoder: x ← x + Attention(RMSNorm(x));                                        x ← x + FeedForward(RMSNorm(x))
    decoder: x ← x + Attention(RMSNorm(x));   x ← x + CrossAttention(RMSNorm(x));   x ← x + FeedForward(RMSNorm(x))

Scores are not scaled by the width of the heads. Version 1.0 has a plain relu layer, and its head is the embedding table, with features scaled
by 1/√d_model; version 1.1 has a gated gelu layer and a head of its own.

Source: Raffel et al. (2020), arXiv 1910.10683; 1.1: the published checkpoints, after Shazeer (2020), arXiv 2002.05202.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from bloomery.models.encoder_decoder import EncoderDecoderConfig, NamedEncoderDecoder
from bloomery.models.hub_fields import refuse_others, require
from bloomery.models.model import HubConfig, HubTensor
from bloomery.nn.attention import AttentionConfig, divisors, near
from bloomery.nn.buckets import BucketsConfig
from bloomery.nn.cross import CrossAttentionConfig
from bloomery.nn.feedforward import FeedForwardConfig, GatedConfig, PlainConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.norms import RMSNormConfig

FeedForwardName = Literal["relu", "gated_gelu", "gated_silu"]
HUB_FEED_FORWARDS: dict[str, tuple[FeedForwardName, str]] = {
    "relu": ("relu", "relu"), "gated-gelu": ("gated_gelu", "gelu_new"), "gated-silu": ("gated_silu", "silu"),
}  # fmt: skip
"""`feed_forward_proj` of a hub folder → our name, and the activation that goes with it."""


class T5Config(NamedEncoderDecoder, HubConfig):
    """Sizes of a T5; version 1.1 unless said otherwise. Those left out follow from the others, also after `replace`.

    Example:
        >>> small = T5Config(vocab_size=32128, d_model=512, n_layers=8, n_heads=6, head_dim=64, d_ff=1024)
        >>> first = T5Config(vocab_size=32128, d_model=512, n_layers=6, n_heads=8, d_ff=2048, feed_forward="relu", tie_embeddings=True)
    """

    hub_type: ClassVar[str] = "t5"
    hub_architecture: ClassVar[str] = "T5ForConditionalGeneration"

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of both residual streams."""
    n_layers: int = Field(gt=0)
    """Blocks of the decoder."""
    n_encoder_layers: int = Field(gt=0, default_factory=lambda known: known["n_layers"])
    """Blocks of the encoder; as many as the decoder's unless given."""
    n_heads: int = Field(gt=0)
    """Heads per layer."""
    head_dim: int = Field(gt=0, default_factory=lambda known: known["d_model"] // known["n_heads"])
    """Features per head; d_model / n_heads unless given."""
    d_ff: int = Field(gt=0, default_factory=lambda known: -(-8 * known["d_model"] // (3 * 64)) * 64)
    """Width of the feed-forward layers; unless given, 8/3 of d_model rounded up to a multiple of 64."""
    feed_forward: FeedForwardName = "gated_gelu"
    """relu in version 1.0, gated_gelu (by tanh) in 1.1, gated_silu in UL2."""
    tie_embeddings: bool = False
    """Whether the head is the embedding table, with features scaled by 1/√d_model, as in version 1.0."""
    n_buckets: int = Field(default=32, gt=0)
    """Learnt numbers per head for distances."""
    max_distance: int = Field(default=128, gt=0)
    """From so many places on, all distances are alike."""
    max_seq_len: int = Field(default=512, gt=0)
    """The longest passage, and the longest text, in tokens; the weights set no limit."""
    start_id: int = Field(default=0, ge=0)
    """The token that every text of the decoder begins with."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square in the norms."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if "head_dim" not in self.model_fields_set and self.d_model % self.n_heads:
            remedy = f"{near(self.n_heads, divisors(self.d_model))} would, or a head_dim"
            raise self.refuse("n_heads", f"does not divide d_model={self.d_model}; {remedy}")
        if self.start_id >= self.vocab_size:
            raise self.refuse("start_id", f"is not below vocab_size={self.vocab_size}; give the id of a token")
        assert self.encoder_decoder

    @property
    def encoder_decoder(self) -> EncoderDecoderConfig:
        def attention(told_apart: Literal["past", "both"]) -> AttentionConfig:
            positions = BucketsConfig(n_buckets=self.n_buckets, max_distance=self.max_distance, told_apart=told_apart)
            return AttentionConfig(n_heads=self.n_heads, head_dim=self.head_dim, positions=positions, scale=1.0)

        feed_forwards: dict[FeedForwardName, FeedForwardConfig] = {
            "relu": PlainConfig(d_ff=self.d_ff, activation="relu", bias=False),
            "gated_gelu": GatedConfig(d_ff=self.d_ff, activation="gelu_tanh"),
            "gated_silu": GatedConfig(d_ff=self.d_ff, activation="silu"),
        }
        return EncoderDecoderConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, n_encoder_layers=self.n_encoder_layers,
            max_seq_len=self.max_seq_len, encoder_mixer=attention("both"), mixer=attention("past"),
            cross=CrossAttentionConfig(n_heads=self.n_heads, head_dim=self.head_dim, scale=1.0), feed_forward=feed_forwards[self.feed_forward],
            norm=RMSNormConfig(eps=self.norm_eps), head=TiedConfig(scale=self.d_model**-0.5) if self.tie_embeddings else UntiedConfig(),
            init=self.init,
        )

    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        d, inner, ff = self.d_model, self.n_heads * self.head_dim, self.d_ff

        def norm(name: str) -> tuple[HubTensor, ...]:
            return (HubTensor(f"{name}.weight", (d,)),)

        def maps(name: str, *which: str) -> tuple[HubTensor, ...]:
            return tuple(HubTensor(f"{name}.{one}.weight", (d, inner) if one == "o" else (inner, d)) for one in which)

        parts: dict[str, tuple[HubTensor, ...]] = {"embedding.weight": (HubTensor("shared.weight", (self.vocab_size, d)),)}
        for ours, theirs, n_layers in (("encoder", "encoder", self.n_encoder_layers), ("blocks", "decoder", self.n_layers)):
            table = HubTensor(f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (self.n_buckets, self.n_heads))
            parts[f"{ours}.0.mixer.bias.table.weight"] = (table,)
            for i in range(n_layers):
                block, layer = f"{ours}.{i}.", f"{theirs}.block.{i}.layer."
                parts[block + "mixer_norm.weight"] = norm(layer + "0.layer_norm")
                parts[block + "mixer.qkv.weight"] = maps(layer + "0.SelfAttention", "q", "k", "v")
                parts[block + "mixer.out.weight"] = maps(layer + "0.SelfAttention", "o")
                if theirs == "decoder":
                    parts[block + "cross_norm.weight"] = norm(layer + "1.layer_norm")
                    parts[block + "cross.query.weight"] = maps(layer + "1.EncDecAttention", "q")
                    parts[block + "cross.kv.weight"] = maps(layer + "1.EncDecAttention", "k", "v")
                    parts[block + "cross.out.weight"] = maps(layer + "1.EncDecAttention", "o")
                last = layer + ("2" if theirs == "decoder" else "1")
                gated = self.feed_forward != "relu"
                into = tuple(HubTensor(f"{last}.DenseReluDense.{wi}.weight", (ff, d)) for wi in (("wi_0", "wi_1") if gated else ("wi",)))
                parts[block + "ff_norm.weight"] = norm(last + ".layer_norm")
                parts[block + ("ff.gate_up.weight" if gated else "ff.up.weight")] = into
                parts[block + "ff.down.weight"] = (HubTensor(f"{last}.DenseReluDense.wo.weight", (d, ff)),)
        parts["encoder_norm.weight"], parts["norm.weight"] = norm("encoder.final_layer_norm"), norm("decoder.final_layer_norm")
        if not self.tie_embeddings:
            parts["head.weight"] = (HubTensor("lm_head.weight", (self.vocab_size, d)),)
        return parts

    def hub_copies(self) -> set[str]:
        unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # in the first checkpoints; no code reads it
        copies = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", unused}
        return copies | {"lm_head.weight"} if self.tie_embeddings else copies

    def to_hub(self) -> dict[str, Any]:
        return {
            "architectures": [self.hub_architecture], "model_type": self.hub_type, "dtype": "float32", "is_encoder_decoder": True,
            "vocab_size": self.vocab_size, "d_model": self.d_model, "d_kv": self.head_dim, "d_ff": self.d_ff, "num_heads": self.n_heads,
            "num_layers": self.n_encoder_layers, "num_decoder_layers": self.n_layers, "n_positions": self.max_seq_len,
            "relative_attention_num_buckets": self.n_buckets, "relative_attention_max_distance": self.max_distance,
            "feed_forward_proj": next(theirs for theirs, (ours, _) in HUB_FEED_FORWARDS.items() if ours == self.feed_forward),
            "tie_word_embeddings": self.tie_embeddings, "layer_norm_epsilon": self.norm_eps,
            "decoder_start_token_id": self.start_id, "dropout_rate": 0.0, "use_cache": True,
        }

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> T5Config:
        require(plain, "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
        asked = {"feed_forward_proj": tuple(HUB_FEED_FORWARDS), "tie_encoder_decoder": (False,), "is_encoder_decoder": (True,)}
        refuse_others(plain, "T5", asked)
        theirs = plain.get("feed_forward_proj") or "relu"
        feed_forward, activation = HUB_FEED_FORWARDS[theirs]
        derived = {"dense_act_fn": (activation,), "is_gated_act": (theirs.startswith("gated"),)}
        refuse_others(plain, f"T5 with feed_forward_proj={theirs!r}", asked | derived)
        tied = plain.get("scale_decoder_outputs", plain.get("tie_word_embeddings", True))  # transformers 5 keeps it under the first name
        return cls(
            vocab_size=plain["vocab_size"], d_model=plain["d_model"], head_dim=plain["d_kv"], d_ff=plain["d_ff"], n_heads=plain["num_heads"],
            n_encoder_layers=plain["num_layers"], n_layers=plain.get("num_decoder_layers") or plain["num_layers"],
            n_buckets=plain.get("relative_attention_num_buckets", 32), max_distance=plain.get("relative_attention_max_distance", 128),
            feed_forward=feed_forward, tie_embeddings=tied, max_seq_len=plain.get("n_positions", 512),
            start_id=plain.get("decoder_start_token_id") or 0, norm_eps=plain.get("layer_norm_epsilon", 1e-6),
        )
