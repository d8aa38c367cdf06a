"""The Llama family: pre-norm blocks of rotary grouped-query attention and SwiGLU, without biases.

    x ← x + Attention(RMSNorm(x));   x ← x + SwiGLU(RMSNorm(x));   logits = W_head · RMSNorm(x)

Source: Touvron et al. (2023), arXiv 2302.13971 and 2307.09288; grouped queries from the latter.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from pydantic.fields import FieldInfo
from torch import Tensor, nn

from bloomery.core.errors import DataError
from bloomery.models.model import CausalModel, HubTensor, ModelConfig
from bloomery.nn.attention import Attention
from bloomery.nn.cache import Cache, LayeredCache
from bloomery.nn.feedforward import SwiGLU
from bloomery.nn.init import FanInInit, NormalInit, WeightInit, fill_normal
from bloomery.nn.layout import SequenceLayout
from bloomery.nn.norms import RMSNorm
from bloomery.nn.positions import Rope
from bloomery.nn.wired import WiredInit


class LlamaConfig(ModelConfig):
    """Sizes of a Llama. Those left out follow from the others, also after `replace`."""

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
    init: NormalInit | FanInInit | WiredInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        if "head_dim" not in self.model_fields_set and self.d_model % self.n_heads:
            raise self.refuse("n_heads", f"does not divide d_model={self.d_model}; {_near(self.n_heads, _divisors(self.d_model))} would")
        if self.head_dim % 2:
            blame = f"head_dim={self.head_dim}"
            if "head_dim" in self.model_fields_set:
                raise self.refuse("head_dim", f"is odd, and rotary positions turn pairs of features; {self.head_dim + 1} would do")
            even = [n for n in _divisors(self.d_model) if self.d_model // n % 2 == 0]
            remedy = f"{_near(self.n_heads, even)} heads would do" if even else f"d_model={self.d_model + 1} would do"
            raise self.refuse("n_heads", f"makes {blame}, which is odd, and rotary positions turn pairs of features; {remedy}")
        if self.n_heads % self.n_kv_heads:
            raise self.refuse("n_kv_heads", f"does not divide n_heads={self.n_heads}; {_near(self.n_kv_heads, _divisors(self.n_heads))} would")

    def non_default_fields(self) -> dict[str, Any]:
        def by_default(field: FieldInfo) -> Any:
            return field.get_default(call_default_factory=True, validated_data=vars(self))

        fields = type(self).model_fields
        return {name: getattr(self, name) for name, field in fields.items() if field.is_required() or getattr(self, name) != by_default(field)}

    def replace(self, **changes: Any) -> LlamaConfig:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**given, **changes})

    def build(self, seed: int) -> Llama:
        """A Llama with fresh weights on the CPU in float32.

        Args:
            seed: each parameter has its own stream, derived from it and the parameter's path.
        """
        with torch.device("meta"):
            model = Llama(self)
        model.to_empty(device="cpu")
        model.initialise(self.init, seed)
        return model

    @property
    def n_params(self) -> int:
        """Number of trainable parameters; a tied head counts once."""
        tables = 1 if self.tie_embeddings else 2
        return tables * self.vocab_size * self.d_model + self.n_layers * (self._matrices_per_layer + 2 * self.d_model) + self.d_model

    def flops_per_token(self, seq_len: int) -> float:
        """Floating-point operations of one training step per token: matrix products only, a multiply-add counts as two.

            3 · (2 · N + n_layers · 2 · n_heads · head_dim · seq_len)

        N are the parameters of the blocks' matrices and of the head (looking up an embedding costs nothing). The second term is the
        scores and the weighted sum of causal attention, 4·n_heads·head_dim per visible token, of which there are seq_len/2 on average.
        The backward pass costs twice the forward pass, hence the 3; what activation checkpointing repeats is not counted.

        Args:
            seq_len: tokens per row (or the mean length of the documents that are packed into it), ≥ 1.

        Source: Kaplan et al. (2020), arXiv 2001.08361, section 2.1. Departures: the head is counted, and causal attention by half.
        """
        products = self.n_layers * self._matrices_per_layer + self.vocab_size * self.d_model
        return 3.0 * (2 * products + self.n_layers * 2 * self.n_heads * self.head_dim * seq_len)

    @property
    def _matrices_per_layer(self) -> int:
        attention = self.d_model * self.head_dim * 2 * (self.n_heads + self.n_kv_heads)
        return attention + 3 * self.d_model * self.d_ff

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


class LlamaBlock(nn.Module):
    """One layer: attention, then feed-forward, each on the norm of the residual stream and added to it."""

    def __init__(self, config: LlamaConfig, rope: Rope) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mixer = Attention(config.d_model, config.n_heads, config.n_kv_heads, config.head_dim, rope)
        self.ff_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ff = SwiGLU(config.d_model, config.d_ff)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        x = x + self.mixer(self.mixer_norm(x), layout, cache)
        return x + self.ff(self.ff_norm(x))


class Llama(CausalModel):
    """A Llama with uninitialised weights; `LlamaConfig.build` makes one that can be trained.

    Parameters: embedding.weight, blocks.<i>.{mixer_norm.weight, mixer.qkv.weight, mixer.out.weight, ff_norm.weight, ff.gate_up.weight,
    ff.down.weight}, norm.weight, and head.weight unless it is tied to the embedding.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        rope = Rope(config.head_dim, config.max_seq_len, config.rope_theta)
        self.blocks = nn.ModuleList(LlamaBlock(config, rope) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)

    @property
    def head_weight(self) -> Float[Tensor, "vocab d_model"]:
        return self.embedding.weight if self.head is None else self.head.weight

    def features(
        self, tokens: Int[Tensor, "batch time"], layout: SequenceLayout, cache: Cache | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        x = self.embedding(tokens)  # (batch, time, d_model)
        caches = cache.layers if isinstance(cache, LayeredCache) else [None] * len(self.blocks)
        for block, of_layer in zip(self.blocks, caches, strict=True):
            x = block(x, layout, of_layer)
        return self.norm(x)

    @property
    def _layers(self) -> list[LlamaBlock]:
        return [block for block in self.blocks if isinstance(block, LlamaBlock)]

    def new_cache(self, batch: int, capacity: int) -> LayeredCache:
        return LayeredCache([block.mixer.new_cache(batch, capacity, self.head_weight.dtype, self.device) for block in self._layers])

    def initialise(self, init: WeightInit, seed: int) -> None:
        """Draws all weights in place."""
        config = self.config
        assert isinstance(config, LlamaConfig)
        n_layers = config.n_layers
        residual = {id(p) for block in self._layers for p in (block.mixer.out.weight, block.ff.down.weight)}
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                nn.init.ones_(parameter)
            elif parameter is self.embedding.weight:
                fill_normal(parameter, init.embedding_std(self.config.d_model), seed, name)
            elif id(parameter) in residual:
                fill_normal(parameter, init.residual_std(parameter.shape[1], n_layers), seed, name)
            else:
                fill_normal(parameter, init.matrix_std(parameter.shape[1]), seed, name)
        init.wire(self.embedding.weight, [block.mixer for block in self._layers], config.rope_theta, seed)


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


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _near(value: int, candidates: list[int]) -> str:
    """The candidates on both sides of a value: "8 or 12"."""
    below, above = [n for n in candidates if n < value], [n for n in candidates if n > value]
    return " or ".join(str(n) for n in below[-1:] + above[:1])
