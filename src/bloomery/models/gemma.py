"""The Gemma families: norms whose factor is 1 + w, embeddings scaled by √d_model, gates of GELU.

    Gemma:    x ← x + Attention(norm(x));          x ← x + GeGLU(norm(x))
    Gemma 2:  x ← x + norm(Attention(norm(x)));    x ← x + norm(GeGLU(norm(x)));   every other layer within a window; soft caps
    Gemma 3:  like Gemma 2 without caps; queries and keys normed; five layers within a window for one that sees all, each kind with its theta

Source: Gemma Team (2024), arXiv 2403.08295 and 2408.00118; (2025), arXiv 2503.19786; and their published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from annotated_types import Gt
from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.models.decoder import DecoderConfig, refuse_uneven_heads
from bloomery.models.hub_fields import (
    check_windows,
    named_values,
    rope_to_hub,
    scaling_from_hub,
    shortest_cycle,
    windows_from_hub,
    windows_of,
    windows_to_hub,
)
from bloomery.models.transformer import TransformerConfig
from bloomery.nn.attention import AttentionConfig
from bloomery.nn.block import SandwichNorm
from bloomery.nn.feedforward import GatedConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.norms import RMSNormConfig
from bloomery.nn.positions import RotaryConfig

LOCAL, GLOBAL = "sliding_attention", "full_attention"


class GemmaConfig(DecoderConfig):
    """Sizes of a Gemma. Those left out follow from the others, also after `replace`."""

    hub_type: ClassVar[str] = "gemma"
    hub_architecture: ClassVar[str] = "GemmaForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({"attention_bias": "attention_bias"})
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"n_kv_heads": 16, "head_dim": 256, "max_seq_len": 8192, "norm_eps": 1e-6, "tie_embeddings": True}
    )
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({
        "hidden_act": ("gelu_pytorch_tanh", "gelu"),  # the first releases say gelu and mean its approximation, as version 5 reads it
        "hidden_activation": ("gelu_pytorch_tanh",), "use_bidirectional_attention": (False,),
    })  # fmt: skip

    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square in the norms."""
    attention_bias: bool = False
    """Whether the four maps of attention have biases."""

    @property
    def norm(self) -> RMSNormConfig:
        return RMSNormConfig(eps=self.norm_eps, around_one=True)

    def attention(self, **parts: Any) -> AttentionConfig:
        return super().attention(**({"qkv_bias": self.attention_bias, "out_bias": self.attention_bias} | parts))

    @property
    def transformer(self) -> TransformerConfig:
        return self.geglu_stack(self.attention())

    def geglu_stack(self, *mixers: AttentionConfig, **parts: Any) -> TransformerConfig:
        """Blocks of these mixers and GeGLU, on scaled embeddings; `parts` say what is different."""
        ff = GatedConfig(d_ff=self.d_ff, activation="gelu_tanh")
        return self.stack(*mixers, feed_forwards=(ff,), embedding_scale=sqrt(self.d_model), **parts)


class LaterGemmaConfig(GemmaConfig):
    """What Gemma 2 and Gemma 3 have in common."""

    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({
        "attention_bias": "attention_bias", "query_pre_attn_scalar": "query_pre_attn_scalar", "logit_softcap": "final_logit_softcapping",
    })  # fmt: skip
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
        {"hidden_activation": ("gelu_pytorch_tanh",), "use_bidirectional_attention": (False,)}
    )
    hub_norms: ClassVar[Mapping[str, str]] = MappingProxyType({
        "mixer_norm.before": "input_layernorm", "mixer_norm.after": "post_attention_layernorm",
        "ff_norm.before": "pre_feedforward_layernorm", "ff_norm.after": "post_feedforward_layernorm",
    })  # fmt: skip
    hub_cycle: ClassVar[int]
    """From one layer that sees all to the next, where `config.json` does not say which do."""

    query_pre_attn_scalar: int = Field(gt=0, default_factory=lambda known: known["head_dim"])
    """Scores are divided by its root; head_dim unless given."""
    logit_softcap: Annotated[float, Gt(0)] | None = None
    """Logits are held below it by tanh; None leaves them free."""
    windows: tuple[Annotated[int, Gt(0)] | None, ...] = Field(min_length=1)
    """How far tokens see in layers 0, 1, …, and again from the first: less than so many places, themselves included; None sees all."""

    def check(self) -> None:
        super().check()
        check_windows(self, self.windows)

    def attention(self, **parts: Any) -> AttentionConfig:
        return super().attention(**({"scale": self.query_pre_attn_scalar**-0.5} | parts))

    def sandwiches(self, *mixers: AttentionConfig) -> TransformerConfig:
        """Blocks of these mixers with norms on both sides of a branch."""
        head = TiedConfig if self.tie_embeddings else UntiedConfig
        return self.geglu_stack(*mixers, placement=SandwichNorm(), head=head(softcap=self.logit_softcap))

    def to_hub(self) -> dict[str, Any]:
        refuse_uneven_heads(self)
        return super().to_hub() | windows_to_hub(self.windows, self.n_layers, unused=self.max_seq_len)

    @classmethod
    def hub_values(cls, plain: dict[str, Any]) -> dict[str, Any]:
        values, n_layers = super().hub_values(plain), plain["num_hidden_layers"]
        types = plain.get("layer_types") or usual_types(cls.hub_cycle, n_layers)
        return values | {"windows": windows_from_hub(types, plain.get("sliding_window", 4096), n_layers)}


class Gemma2Config(LaterGemmaConfig):
    """Sizes of a Gemma 2. Those left out follow from the others, also after `replace`."""

    hub_type: ClassVar[str] = "gemma2"
    hub_architecture: ClassVar[str] = "Gemma2ForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({**LaterGemmaConfig.hub_names, "attention_softcap": "attn_logit_softcapping"})
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "n_kv_heads": 4, "head_dim": 256, "max_seq_len": 8192, "norm_eps": 1e-6, "tie_embeddings": True, "query_pre_attn_scalar": 256,
        "attention_softcap": 50.0, "logit_softcap": 30.0,
    })  # fmt: skip
    hub_cycle: ClassVar[int] = 2

    attention_softcap: Annotated[float, Gt(0)] | None = 50.0
    """Scores are held below it by tanh; None leaves them free."""
    logit_softcap: Annotated[float, Gt(0)] | None = 30.0
    """Logits are held below it by tanh; None leaves them free."""
    windows: tuple[Annotated[int, Gt(0)] | None, ...] = Field(min_length=1, default_factory=lambda known: (4096, None)[: known["n_layers"]])
    """How far tokens see in layers 0, 1, …, and again from the first: less than so many places, themselves included; None sees all."""

    @property
    def transformer(self) -> TransformerConfig:
        return self.sandwiches(*(self.attention(window=window, softcap=self.attention_softcap) for window in self.windows))


class Gemma3Config(LaterGemmaConfig):
    """Sizes of a Gemma 3 that reads text. Those left out follow from the others, also after `replace`."""

    hub_type: ClassVar[str] = "gemma3_text"
    hub_architecture: ClassVar[str] = "Gemma3ForCausalLM"
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "n_kv_heads": 4, "head_dim": 256, "max_seq_len": 131072, "norm_eps": 1e-6, "tie_embeddings": True, "query_pre_attn_scalar": 256,
    })  # fmt: skip
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({**LaterGemmaConfig.hub_fixed, "attn_logit_softcapping": (None,)})
    hub_cycle: ClassVar[int] = 6

    rope_theta: float = Field(default=1_000_000.0, gt=0)
    """Base of the rotary wavelengths in layers that see all; `rope_scaling` is for them alone."""
    local_rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary wavelengths in layers with a window."""
    windows: tuple[Annotated[int, Gt(0)] | None, ...] = Field(
        min_length=1, default_factory=lambda known: shortest_cycle(windows_of((512,) * 5 + (None,), known["n_layers"])),
    )
    """How far tokens see in layers 0, 1, …, and again from the first: less than so many places, themselves included; None sees all."""

    @property
    def transformer(self) -> TransformerConfig:
        far, near = self.attention(qk_norm=self.norm), self.attention(qk_norm=self.norm, positions=RotaryConfig(theta=self.local_rope_theta))
        return self.sandwiches(*(far if window is None else near.replace(window=window) for window in self.windows))

    @classmethod
    def hub_values(cls, plain: dict[str, Any]) -> dict[str, Any]:
        if (cycle := plain.get("sliding_window_pattern")) and not plain.get("layer_types"):  # as the first releases say it
            plain = plain | {"layer_types": usual_types(cycle, plain.get("num_hidden_layers", 0))}
        return super().hub_values(plain)

    def hub_rope(self) -> dict[str, Any]:
        far, near = super().hub_rope(), rope_to_hub(self.local_rope_theta, None, self.head_dim)
        each = {GLOBAL: far["rope_parameters"], LOCAL: near["rope_parameters"]}
        return far | {"rope_local_base_freq": self.local_rope_theta, "rope_parameters": each}

    @classmethod
    def hub_rope_values(cls, plain: dict[str, Any], max_seq_len: int) -> dict[str, Any]:
        each = named_values(plain, "rope_parameters")
        if others := each.keys() - {GLOBAL, LOCAL}:
            raise DataError(f"config.json has {min(others)!r} in its rope_parameters, where this family has {GLOBAL!r} and {LOCAL!r} alone; "
                            "put it below one of them")  # fmt: skip
        far, near = {**named_values(each, GLOBAL), **named_values(plain, "rope_scaling")}, named_values(each, LOCAL)
        if scaling_from_hub(near, {}, max_seq_len) is not None:
            raise DataError(f"config.json has rope_type={near['rope_type']!r} for {LOCAL}, which is not supported; 'default' is")
        return {
            "rope_theta": far.get("rope_theta") or plain.get("rope_theta") or 1_000_000.0,
            "rope_scaling": scaling_from_hub(far, plain, max_seq_len),
            "local_rope_theta": near.get("rope_theta") or plain.get("rope_local_base_freq") or 10_000.0,
        }


def usual_types(cycle: int, n_layers: int) -> list[str]:
    """`layer_types` in which the last layer of each cycle sees all."""
    return [LOCAL if (i + 1) % cycle else GLOBAL for i in range(n_layers)]
