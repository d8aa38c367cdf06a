"""The Qwen3 family: Llama's blocks with normed queries and keys; layers can have windows.

    q ← RMSNorm(W_q · x), k ← RMSNorm(W_k · x), head by head

Source: Yang et al. (2025), arXiv 2505.09388.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from annotated_types import Gt
from pydantic import Field

from bloomery.models.decoder import DecoderConfig
from bloomery.models.hub_fields import check_windows, windows_from_hub, windows_to_hub
from bloomery.models.transformer import TransformerConfig


class Qwen3Config(DecoderConfig):
    """Sizes of a Qwen3. Those left out follow from the others, also after `replace`."""

    hub_type: ClassVar[str] = "qwen3"
    hub_architecture: ClassVar[str] = "Qwen3ForCausalLM"
    hub_names: ClassVar[Mapping[str, str]] = MappingProxyType({"attention_bias": "attention_bias"})
    hub_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"n_kv_heads": 32, "head_dim": 128, "max_seq_len": 32768, "norm_eps": 1e-6, "tie_embeddings": False}
    )
    hub_fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({"hidden_act": ("silu",)})

    rope_theta: float = Field(default=1_000_000.0, gt=0)
    """Base of the rotary wavelengths."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square in the norms."""
    attention_bias: bool = False
    """Whether the four maps of attention have biases."""
    windows: tuple[Annotated[int, Gt(0)] | None, ...] = Field(default=(None,), min_length=1)
    """How far tokens see in layers 0, 1, …, and again from the first: less than so many places, themselves included; None sees all."""

    def check(self) -> None:
        super().check()
        check_windows(self, self.windows)

    @property
    def transformer(self) -> TransformerConfig:
        bias = self.attention_bias
        return self.stack(*(self.attention(window=window, qk_norm=self.norm, qkv_bias=bias, out_bias=bias) for window in self.windows))

    def to_hub(self) -> dict[str, Any]:
        windows = windows_to_hub(self.windows, self.n_layers)
        return super().to_hub() | windows | {"use_sliding_window": windows["sliding_window"] is not None}

    @classmethod
    def hub_values(cls, plain: dict[str, Any]) -> dict[str, Any]:
        values, n_layers = super().hub_values(plain), plain["num_hidden_layers"]
        width = plain.get("sliding_window", 4096) if plain.get("use_sliding_window") else None
        from_layer = n_layers if width is None else plain.get("max_window_layers", 28)
        usual = ["full_attention" if i < from_layer else "sliding_attention" for i in range(n_layers)]
        return values | {"windows": windows_from_hub(plain.get("layer_types") or usual, width, n_layers)}
