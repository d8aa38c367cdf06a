"""Architectures to begin with, by name; `bloomery models` lists them with their costs."""

from __future__ import annotations

from bloomery.core.errors import ConfigError, did_you_mean
from bloomery.models.albert import AlbertConfig
from bloomery.models.bert import BertConfig
from bloomery.models.deberta import DebertaConfig
from bloomery.models.gpt2 import Gpt2Config
from bloomery.models.llama import LlamaConfig
from bloomery.models.mamba2 import Mamba2ModelConfig
from bloomery.models.mistral import MistralConfig
from bloomery.models.mixtral import MixtralConfig
from bloomery.models.model import ModelConfig
from bloomery.models.olmoe import OlmoeConfig
from bloomery.models.qwen3 import Qwen3Config
from bloomery.models.roberta import RobertaConfig
from bloomery.models.t5 import T5Config
from bloomery.models.transformer2017 import Transformer2017Config
from bloomery.nn.mamba2 import Mamba2Config


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
    "gpt2": Gpt2Config(vocab_size=50_257, d_model=768, n_layers=12, n_heads=12),
    "gpt2-xl": Gpt2Config(vocab_size=50_257, d_model=1600, n_layers=48, n_heads=25),
    "gpt3-175b": Gpt2Config(vocab_size=50_257, d_model=12_288, n_layers=96, n_heads=96, max_seq_len=2048),
    "llama3-8b": LlamaConfig(
        vocab_size=128_256, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14_336, max_seq_len=8192, rope_theta=500_000.0,
        tie_embeddings=False,
    ),
    "mistral-7b": MistralConfig(
        vocab_size=32_000, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14_336, max_seq_len=32_768, window=4096,
    ),
    "qwen3-0.6b": Qwen3Config(
        vocab_size=151_936, d_model=1024, n_layers=28, n_heads=16, n_kv_heads=8, head_dim=128, d_ff=3072, max_seq_len=40_960,
    ),
    "mixtral-8x7b": MixtralConfig(
        vocab_size=32_000, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14_336, n_experts=8, n_active=2, max_seq_len=32_768,
        rope_theta=1_000_000.0, tie_embeddings=False,
    ),
    "olmoe-1b-7b": OlmoeConfig(
        vocab_size=50_304, d_model=2048, n_layers=16, n_heads=16, d_ff=1024, n_experts=64, n_active=8, max_seq_len=4096, tie_embeddings=False,
    ),
    "mamba2-130m": Mamba2ModelConfig(vocab_size=50_288, d_model=768, n_layers=24, mamba=Mamba2Config()),
    "bert-base": BertConfig(vocab_size=30_522, d_model=768, n_layers=12, n_heads=12),
    "roberta-base": RobertaConfig(vocab_size=50_265, d_model=768, n_layers=12, n_heads=12),
    "albert-base": AlbertConfig(vocab_size=30_000, d_model=768, n_layers=12, n_heads=12),
    "deberta-v3-base": DebertaConfig(vocab_size=128_100, d_model=768, n_layers=12, n_heads=12),
    "t5-small": T5Config(
        vocab_size=32_128, d_model=512, n_layers=6, n_heads=8, head_dim=64, d_ff=2048, feed_forward="relu", tie_embeddings=True,
    ),
    "transformer-base": Transformer2017Config(vocab_size=37_000, d_model=512, n_layers=6, n_heads=8),
}  # fmt: skip
"""Name → config. Those called by a size are Llamas, with heads 64 or 128 wide and a feed-forward layer of 8/3 of the width; the others have the
sizes that were published under their names, without heads for tasks."""


def preset(name: str) -> ModelConfig:
    """The config of a name in `PRESETS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        remedy = did_you_mean(name, PRESETS, f"those that are, are {', '.join(PRESETS)}")
        raise ConfigError(f"there is no preset {name!r}; {remedy}")
    return PRESETS[name]
