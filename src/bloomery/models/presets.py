"""Architectures to begin with, by name; `bloomery models` lists them with their costs."""

from __future__ import annotations

import difflib

from bloomery.core.errors import ConfigError
from bloomery.models.llama import LlamaConfig
from bloomery.models.model import ModelConfig


def _llama(d_model: int, n_layers: int, n_heads: int, vocab_size: int, max_seq_len: int = 4096, **sizes: int) -> LlamaConfig:
    """A Llama whose head is its embedding table up to a billion parameters, where the table is a large part of it, and its own above."""
    tied = 12 * n_layers * d_model**2 < 1_000_000_000
    return LlamaConfig(
        vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=n_heads, max_seq_len=max_seq_len, tie_embeddings=tied, **sizes,
    )


PRESETS: dict[str, ModelConfig] = {
    "1m": _llama(128, 4, 4, 2048, 512),
    "6m": _llama(256, 6, 4, 4096, 1024),
    "14m": _llama(384, 6, 6, 8192, 1024),
    "34m": _llama(512, 8, 8, 16_384, 2048),
    "110m": _llama(768, 12, 12, 32_768),
    "340m": _llama(1024, 24, 16, 32_768),
    "760m": _llama(1536, 24, 12, 50_304),
    "1.4b": _llama(2048, 24, 16, 50_304),
    "2.8b": _llama(2560, 32, 20, 50_304),
    "7b": _llama(4096, 32, 32, 50_304, d_ff=11_008),  # often called 10 B; it has 6.9
    "10b": _llama(5120, 30, 40, 50_304),
    "15b": _llama(5120, 46, 40, 50_304),  # 10b with 16 more layers: what `Deepen` makes of it
}
"""Name → config. Those called by a size are Llamas, with heads 64 or 128 wide and a feed-forward layer of 8/3 of the width."""


def preset(name: str) -> ModelConfig:
    """The config of a name in `PRESETS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"those that are, are {', '.join(PRESETS)}"
        raise ConfigError(f"there is no preset {name!r}; {remedy}")
    return PRESETS[name]
