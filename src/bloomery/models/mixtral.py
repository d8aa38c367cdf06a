"""The Mixtral family: Llama's blocks, each with a mixture of experts in place of its feed-forward layer.

    x ← x + Attention(RMSNorm(x));   x ← x + Σ_{e of the best n_active} w_e · SwiGLU_e(RMSNorm(x)),   w = softmax(logits of the chosen)

Source: Jiang et al. (2024), arXiv 2401.04088.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from annotated_types import Gt
from pydantic import Field

from bloomery.models.decoder import DecoderConfig
from bloomery.models.model import HubTensor
from bloomery.models.transformer import TransformerConfig
from bloomery.nn.experts import ExpertsConfig
from bloomery.nn.feedforward import FeedForwardConfig


class MixtralConfig(DecoderConfig):
    """Sizes of a Mixtral: those of a Llama, where `d_ff` is the width of each expert."""

    hub_type: ClassVar[str] = "mixtral"
    hub_architecture: ClassVar[str] = "MixtralForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"n_experts": "num_local_experts", "n_active": "num_experts_per_tok", "window": "sliding_window"}
    )
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"max_seq_len": 131072, "norm_eps": 1e-5, "tie_embeddings": False, "n_kv_heads": 8, "n_experts": 8, "n_active": 2}
    )
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({"hidden_act": ("silu",), "router_jitter_noise": (0.0,)})

    n_experts: int = Field(gt=0)
    """Experts per layer."""
    n_active: int = Field(gt=0)
    """Experts that each token chooses."""
    window: Annotated[int, Gt(0)] | None = None
    """A token sees those less than so many places away, itself included; None sees all."""

    def check(self) -> None:
        super().check()
        check_active(self, self.n_experts, self.n_active)

    @property
    def transformer(self) -> TransformerConfig:
        experts = ExpertsConfig(n_experts=self.n_experts, n_active=self.n_active, d_ff=self.d_ff)
        return self.stack(self.attention(window=self.window), feed_forwards=(experts,))

    def ff_parts(self, feed_forward: FeedForwardConfig | None, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
        return expert_parts(feed_forward, self.d_model, ours, theirs + "block_sparse_moe.", ("w1", "w3", "w2"))

    @classmethod
    def hub_values(cls, plain: dict[str, Any]) -> dict[str, Any]:
        return super().hub_values({"rope_theta": 1e6} | plain)


def expert_parts(
    experts: FeedForwardConfig | None, d_model: int, ours: str, theirs: str, maps: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
) -> dict[str, tuple[HubTensor, ...]]:
    """The names of a layer's router and experts: a file has a tensor per expert and map, which we stack.

    Args:
        experts: an `ExpertsConfig`.
        d_model: width of input and output.
        ours: what our names begin with, the last point included.
        theirs: likewise.
        maps: their names for gate, up and down.
    """
    assert isinstance(experts, ExpertsConfig)
    gate, up, down = maps
    each = [f"{theirs}experts.{e}." for e in range(experts.n_experts)]
    return {
        ours + "router.map.weight": (HubTensor(theirs + "gate.weight", (experts.n_experts, d_model)),),
        ours + "gate_up.weight": tuple(HubTensor(f"{e}{name}.weight", (experts.d_ff, d_model)) for e in each for name in (gate, up)),
        ours + "down.weight": tuple(HubTensor(f"{e}{down}.weight", (d_model, experts.d_ff)) for e in each),
    }


def check_active(config: DecoderConfig, n_experts: int, n_active: int) -> None:
    """Refuses more active experts than there are."""
    if n_active > n_experts:
        raise config.refuse("n_active", f"is more than n_experts={n_experts}; give at most that many")
