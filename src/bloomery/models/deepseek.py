"""The DeepSeek-V3 family: latent attention; a few dense layers, then experts with sigmoid routers, groups, and one that every token goes to.

Source: DeepSeek-AI (2024), arXiv 2412.19437, section 2.1. Departures: no modules that predict further tokens; the routers' corrections are
kept as a checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log, sqrt
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt
from pydantic import Field

from bloomery.models.decoder import DecoderConfig, gated_parts
from bloomery.models.hub_fields import rope_to_hub
from bloomery.models.mixtral import expert_parts
from bloomery.models.model import HubTensor
from bloomery.models.transformer import TransformerConfig
from bloomery.nn.experts import ExpertsConfig, SigmoidRouterConfig
from bloomery.nn.feedforward import FeedForwardConfig, GatedConfig
from bloomery.nn.latent import LatentAttentionConfig
from bloomery.nn.mixer import MixerConfig
from bloomery.nn.positions import RotaryConfig


class DeepseekV3Config(DecoderConfig):
    """Sizes of a DeepSeek-V3. Of a head, `head_dim` features know no places and `rope_dim` do; `d_ff` is the width of the dense layers."""

    hub_type: ClassVar[str] = "deepseek_v3"
    hub_architecture: ClassVar[str] = "DeepseekV3ForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({
        "head_dim": "qk_nope_head_dim", "rope_dim": "qk_rope_head_dim", "value_dim": "v_head_dim", "d_latent": "kv_lora_rank",
        "d_query_latent": "q_lora_rank", "n_dense_layers": "first_k_dense_replace", "n_experts": "n_routed_experts",
        "n_active": "num_experts_per_tok", "n_shared": "n_shared_experts", "d_expert": "moe_intermediate_size", "n_groups": "n_group",
        "n_active_groups": "topk_group", "renormalise": "norm_topk_prob", "routed_scale": "routed_scaling_factor",
    })  # fmt: skip
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "max_seq_len": 4096, "norm_eps": 1e-6, "tie_embeddings": False, "head_dim": 128, "rope_dim": 64, "value_dim": 128, "d_latent": 512,
        "d_query_latent": 1536, "n_dense_layers": 3, "n_experts": 256, "n_active": 8, "n_shared": 1, "d_expert": 2048, "n_groups": 8,
        "n_active_groups": 4, "renormalise": True, "routed_scale": 2.5,
    })  # fmt: skip
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({
        "hidden_act": ("silu",), "attention_bias": (False,), "rope_interleave": (True,), "scoring_func": ("sigmoid",),
        "topk_method": ("noaux_tc",), "moe_layer_freq": (1,), "num_nextn_predict_layers": (0,),
    })  # fmt: skip

    d_latent: int = Field(gt=0)
    """Width of the vector that keys and values are made from."""
    d_query_latent: Annotated[int, Gt(0)] | None = None
    """Width of the vector that queries are made from; None makes them from the residual stream."""
    rope_dim: int = Field(gt=0)
    """Features of a head's queries and keys that are turned by their place, even."""
    value_dim: int = Field(gt=0, default_factory=lambda known: known["head_dim"])
    """Features of a head's values; head_dim unless given."""
    n_dense_layers: int = Field(default=1, ge=0)
    """Layers, the first ones, without experts."""
    n_experts: int = Field(gt=0)
    """Experts of each other layer."""
    n_active: int = Field(gt=0)
    """Experts that each token chooses."""
    n_shared: int = Field(default=1, gt=0)
    """Further experts, as one, that every token goes to."""
    d_expert: int = Field(gt=0)
    """Width of each expert."""
    n_groups: int = Field(default=1, gt=0)
    """Groups of neighbouring experts."""
    n_active_groups: int = Field(default=1, gt=0)
    """Groups that a token's experts come from."""
    renormalise: bool = True
    """Whether the weights of the chosen experts are scaled to add up to 1."""
    routed_scale: Annotated[float, Gt(0)] = 1.0
    """Factor on them."""
    sharpening: Annotated[float, Ge(0)] = 0.0
    """m, where rotary positions are stretched by a factor: scores are multiplied by (0.1 · m · ln(factor) + 1)²."""

    def check(self) -> None:
        if self.n_kv_heads != self.n_heads:
            raise self.refuse("n_kv_heads", f"is not n_heads={self.n_heads}, and latents give keys and values to each head; leave it out")
        if self.n_dense_layers > self.n_layers:
            raise self.refuse("n_dense_layers", f"is more than n_layers={self.n_layers}; give at most that many")
        if self.sharpening and self.rope_scaling is None:
            raise self.refuse("sharpening", "goes with a rope_scaling, and there is none; give one, or 0")
        self.transformer  # noqa: B018  builds the parts, which refuse what they cannot be

    @property
    def transformer(self) -> TransformerConfig:
        factor = 1.0 if self.rope_scaling is None else 0.1 * self.sharpening * log(self.rope_scaling.factor) + 1.0
        attention = LatentAttentionConfig(
            n_heads=self.n_heads, d_latent=self.d_latent, d_query_latent=self.d_query_latent, head_dim=self.head_dim, rope_dim=self.rope_dim,
            value_dim=self.value_dim, positions=RotaryConfig(theta=self.rope_theta, scaling=self.rope_scaling), pairs="neighbours",
            scale=factor**2 / sqrt(self.head_dim + self.rope_dim),
        )
        router = SigmoidRouterConfig(
            renormalise=self.renormalise, scale=self.routed_scale, n_groups=self.n_groups, n_active_groups=self.n_active_groups,
        )
        experts = ExpertsConfig(n_experts=self.n_experts, n_active=self.n_active, d_ff=self.d_expert, n_shared=self.n_shared, router=router)
        dense = (GatedConfig(d_ff=self.d_ff),) * self.n_dense_layers
        return self.stack(attention, feed_forwards=(*dense, *[experts] * (self.n_layers - self.n_dense_layers)))

    def mixer_parts(self, attention: MixerConfig, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
        d, latent, short = self.d_model, self.d_latent, self.d_query_latent
        queries, keys, values = (self.n_heads * width for width in (self.head_dim + self.rope_dim, self.head_dim, self.value_dim))
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "down": ("kv_a_proj_with_mqa", (latent + self.rope_dim, d)), "norm": ("kv_a_layernorm", (latent,)),
            "up": ("kv_b_proj", (keys + values, latent)), "out": ("o_proj", (d, values)),
        }  # fmt: skip
        if short is None:
            shapes["query"] = ("q_proj", (queries, d))
        else:
            shapes |= {"query.down": ("q_a_proj", (short, d)), "query.norm": ("q_a_layernorm", (short,))}
            shapes["query.up"] = ("q_b_proj", (queries, short))
        return {f"{ours}{name}.weight": (HubTensor(f"{theirs}{hub}.weight", shape),) for name, (hub, shape) in shapes.items()}

    def ff_parts(self, feed_forward: FeedForwardConfig | None, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
        if not isinstance(feed_forward, ExpertsConfig):
            return super().ff_parts(feed_forward, ours, theirs)
        theirs += "mlp."
        return {
            **expert_parts(feed_forward, self.d_model, ours, theirs),
            ours + "router.bias": (HubTensor(theirs + "gate.e_score_correction_bias", (self.n_experts,)),),
            **gated_parts(self.d_model, self.n_shared * self.d_expert, ours + "shared.", theirs + "shared_experts."),
        }

    def to_hub(self) -> dict[str, Any]:
        plain = super().to_hub() | rope_to_hub(self.rope_theta, self.rope_scaling, self.rope_dim)
        if self.sharpening:
            plain |= {name: plain[name] | {"mscale_all_dim": self.sharpening} for name in ("rope_parameters", "rope_scaling") if name in plain}
        return plain

    @classmethod
    def hub_values(cls, plain: dict[str, Any]) -> dict[str, Any]:
        values, rope = super().hub_values(plain), plain.get("rope_scaling") or plain.get("rope_parameters") or {}
        return values | {"sharpening": 0.0 if values["rope_scaling"] is None else rope.get("mscale_all_dim") or 0.0}
