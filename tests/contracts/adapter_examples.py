"""Values of every adapter, by class name, for the contracts: on a Llama of d_model 24 and a BERT-like encoder of the same width."""

from bloomery.models import BertConfig, Gpt2Config, LlamaConfig, ModelConfig
from bloomery.nn.adapters import Adapter, DoRA, LoRA, RsLoRA

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
    "DoRA": (DoRA(rank=3), DoRA(rank=2, targets=("value", "blocks.0.ff"))),
}
