"""The Mamba-2 family: state-space layers alone, each with its norm; no attention, no feed-forward layers, no positions.

    x ← x + Mamba2(RMSNorm(x));   logits = W_head · RMSNorm(x)

Source: Dao and Gu (2024), arXiv 2405.21060. With n_groups > 1 the norms within the layers are by group, as in its published code and in
transformers 5; earlier versions of transformers norm all groups as one (their pull request 40861), and give other numbers there.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field

from bloomery.core.errors import DataError
from bloomery.models.hub_fields import refuse_others, require
from bloomery.models.model import HubTensor
from bloomery.models.transformer import NamedConfig, TransformerConfig
from bloomery.nn.head import TiedConfig, UntiedConfig
from bloomery.nn.init import NormalInit, WeightInit
from bloomery.nn.mamba2 import Mamba2Config
from bloomery.nn.norms import RMSNormConfig


class Mamba2ModelConfig(NamedConfig):
    """Sizes of a Mamba-2. Its layers hold what they read in a state of fixed size, so that a token costs the same after any length.

    Example:
        >>> Mamba2ModelConfig(vocab_size=512, d_model=64, n_layers=4, mamba=Mamba2Config(head_dim=32, d_state=32))
    """

    hub_type: ClassVar[str] = "mamba2"
    hub_architecture: ClassVar[str] = "Mamba2ForCausalLM"

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    d_model: int = Field(gt=0)
    """Width of the residual stream."""
    n_layers: int = Field(gt=0)
    """Number of blocks."""
    mamba: Mamba2Config = Mamba2Config()
    """The layers; their norm_eps is that of all norms."""
    max_seq_len: int = Field(default=1024, gt=0)
    """The longest sequence that the model is to read, in tokens; the weights set no limit."""
    tie_embeddings: bool = True
    """Whether the head is the embedding table."""
    init: WeightInit = NormalInit()
    """What fresh weights are drawn from."""

    def check(self) -> None:
        self.mamba.check_model(self.d_model, self.max_seq_len)

    @property
    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            vocab_size=self.vocab_size, d_model=self.d_model, n_layers=self.n_layers, max_seq_len=self.max_seq_len, mixers=(self.mamba,),
            feed_forwards=(None,), norm=RMSNormConfig(eps=self.mamba.norm_eps), head=TiedConfig() if self.tie_embeddings else UntiedConfig(),
            init=self.init,
        )

    def hub_parts(self) -> dict[str, tuple[HubTensor, ...]]:
        d = self.d_model
        parts: dict[str, tuple[HubTensor, ...]] = {"embedding.weight": (HubTensor("backbone.embeddings.weight", (self.vocab_size, d)),)}
        for i in range(self.n_layers):
            parts[f"blocks.{i}.mixer_norm.weight"] = (HubTensor(f"backbone.layers.{i}.norm.weight", (d,)),)
            parts |= layer_parts(self.mamba, d, f"blocks.{i}.mixer.", f"backbone.layers.{i}.mixer.")
        parts["norm.weight"] = (HubTensor("backbone.norm_f.weight", (d,)),)
        if not self.tie_embeddings:
            parts["head.weight"] = (HubTensor("lm_head.weight", (self.vocab_size, d)),)
        return parts

    def hub_copies(self) -> set[str]:
        return {"lm_head.weight"} if self.tie_embeddings else set()

    def to_hub(self) -> dict[str, Any]:
        mamba = self.mamba
        return {
            "architectures": [self.hub_architecture], "model_type": "mamba2", "dtype": "float32",
            "vocab_size": self.vocab_size, "hidden_size": self.d_model, "num_hidden_layers": self.n_layers,
            "num_heads": mamba.n_heads(self.d_model), "head_dim": mamba.head_dim, "expand": mamba.expand, "state_size": mamba.d_state,
            "n_groups": mamba.n_groups, "conv_kernel": mamba.conv_width, "use_conv_bias": mamba.conv_bias, "use_bias": mamba.bias,
            "chunk_size": mamba.chunk, "layer_norm_epsilon": mamba.norm_eps, "max_position_embeddings": self.max_seq_len,
            "tie_word_embeddings": self.tie_embeddings, "hidden_act": "silu", "initializer_range": self.init.embedding_std(self.d_model),
            "use_cache": True, **steps_to_hub(mamba),
        }

    @classmethod
    def from_hub(cls, plain: dict[str, Any]) -> Mamba2ModelConfig:
        require(plain, "vocab_size", "hidden_size", "num_hidden_layers", "num_heads", "head_dim", "state_size")
        refuse_others(plain, "Mamba-2", {"hidden_act": ("silu",), "rms_norm": (True,)})
        mamba = Mamba2Config(
            expand=plain.get("expand", 2), head_dim=plain["head_dim"], d_state=plain["state_size"], n_groups=plain.get("n_groups", 8),
            conv_width=plain.get("conv_kernel", 4), conv_bias=plain.get("use_conv_bias", True), bias=plain.get("use_bias", False),
            chunk=plain.get("chunk_size", 256), norm_eps=plain.get("layer_norm_epsilon", 1e-5), **steps_from_hub(plain),
        )
        refuse_heads(plain, mamba, heads="num_heads", head_dim="head_dim", expand="expand")
        return cls(
            vocab_size=plain["vocab_size"], d_model=plain["hidden_size"], n_layers=plain["num_hidden_layers"], mamba=mamba,
            max_seq_len=plain.get("max_position_embeddings", 2048), tie_embeddings=plain.get("tie_word_embeddings", False),
        )


def layer_parts(mamba: Mamba2Config, d_model: int, ours: str, theirs: str) -> dict[str, tuple[HubTensor, ...]]:
    """The tensors of a Mamba-2 layer as `HubConfig.hub_parts` has them; the names begin with `ours` and `theirs`."""
    inner, heads = mamba.expand * d_model, mamba.n_heads(d_model)
    channels = inner + 2 * mamba.n_groups * mamba.d_state
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "into.weight": ("in_proj.weight", (inner + channels + heads, d_model)),
        "conv.weight": ("conv1d.weight", (channels, 1, mamba.conv_width)),
        "a_log": ("A_log", (heads,)), "dt_bias": ("dt_bias", (heads,)), "skip": ("D", (heads,)), "norm.weight": ("norm.weight", (inner,)),
        "out.weight": ("out_proj.weight", (d_model, inner)),
    }
    if mamba.conv_bias:
        shapes["conv.bias"] = ("conv1d.bias", (channels,))
    if mamba.bias:
        shapes |= {"into.bias": ("in_proj.bias", (inner + channels + heads,)), "out.bias": ("out_proj.bias", (d_model,))}
    return {ours + name: (HubTensor(theirs + there, shape),) for name, (there, shape) in shapes.items()}


def steps_to_hub(mamba: Mamba2Config) -> dict[str, Any]:
    """What `config.json` says of step sizes; no limit is its default, since JSON knows no infinity."""
    low, high = mamba.dt_range
    limit = {} if mamba.dt_limit is None else {"time_step_limit": list(mamba.dt_limit)}
    return {"time_step_min": low, "time_step_max": high, "time_step_floor": mamba.dt_floor, **limit}


def steps_from_hub(plain: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Mamba2Config` on step sizes. An upper limit of infinity is a number, or {"__float__": "Infinity"} (transformers 5)."""
    low, high = (float(end["__float__"] if isinstance(end, dict) else end) for end in plain.get("time_step_limit") or (0.0, math.inf))
    return {
        "dt_range": (plain.get("time_step_min", 0.001), plain.get("time_step_max", 0.1)), "dt_floor": plain.get("time_step_floor", 1e-4),
        "dt_limit": None if (low, high) == (0.0, math.inf) else (low, high),
    }


def refuse_heads(plain: dict[str, Any], mamba: Mamba2Config, heads: str, head_dim: str, expand: str) -> None:
    """Raises `DataError` where the heads of a `config.json` are not as wide, together, as the layer."""
    inner = mamba.expand * plain["hidden_size"]
    if plain[heads] * mamba.head_dim != inner:
        product = f"{heads}={plain[heads]} times {head_dim}={mamba.head_dim}"
        raise DataError(f"config.json has {product}, which is not {expand}={mamba.expand} times hidden_size={plain['hidden_size']}; "
                        "take it from the original checkpoint")  # fmt: skip
