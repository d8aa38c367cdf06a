"""Values of every adapter, by class name, for the contracts: on a Llama of d_model 24 and a BERT-like encoder of the same width."""

from bloomery.models import BertConfig, Gpt2Config, LlamaConfig, ModelConfig
from bloomery.nn.adapters import (
    Adapter,
    Bottleneck,
    DoRA,
    Int8,
    LoRA,
    Nf4,
    PrefixTuning,
    PromptTuning,
    PTuning,
    QLoRA,
    RsLoRA,
)

LLAMA = LlamaConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=40, max_seq_len=64)
BASES: dict[str, ModelConfig] = {
    "llama": LLAMA,
    "llama, untied": LLAMA.replace(tie_embeddings=False),
    "gpt2": Gpt2Config(vocab_size=61, d_model=24, n_layers=2, n_heads=4, max_seq_len=64),
    "bert": BertConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4, max_seq_len=64),
}

EXAMPLES: dict[str, tuple[Adapter, ...]] = {
    "LoRA": (LoRA(rank=3), LoRA(rank=2, alpha=5.0, targets=("query", "ff.down", "blocks.1.mixer.qkv.value", "embedding", "head"))),
    "RsLoRA": (RsLoRA(rank=3, alpha=2.0, targets=("mixer", "head")),),
    "QLoRA": (QLoRA(rank=3, bits=Int8(block=8)), QLoRA(rank=2, targets=("query", "ff.down"), bits=Nf4(block=12))),
    "Bottleneck": (Bottleneck(width=5), Bottleneck(width=3, activation="relu", targets=("blocks.1.ff.down",))),
    "PromptTuning": (PromptTuning(n_tokens=4), PromptTuning(n_tokens=5, words=(7, 3))),
    "PTuning": (PTuning(n_tokens=4), PTuning(n_tokens=5, template=(0, 0, 3, 3, 30), units=7)),
    "PrefixTuning": (PrefixTuning(n_tokens=3), PrefixTuning(n_tokens=2, projection=9)),
    "DoRA": (DoRA(rank=3), DoRA(rank=2, targets=("value", "blocks.0.ff"))),
}
