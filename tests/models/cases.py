"""Small configs of every named family, for `test_parity.py`: add a family's variants here and all its laws are tested."""

from __future__ import annotations

from bloomery.models import (
    AlbertConfig,
    BambaConfig,
    BertConfig,
    ElectraConfig,
    HubConfig,
    LlamaConfig,
    Mamba2ModelConfig,
    RobertaConfig,
    T5Config,
)
from bloomery.nn import Mamba2Config

LLAMA = LlamaConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4, d_ff=40, max_seq_len=64, tie_embeddings=False, norm_eps=1e-4)

ENCODER = {"vocab_size": 61, "d_model": 24, "n_layers": 4, "n_heads": 4, "d_ff": 40, "max_seq_len": 64}
BERT, ROBERTA = BertConfig(**ENCODER), RobertaConfig(**ENCODER)
ALBERT, ELECTRA = AlbertConfig(**ENCODER, d_embedding=10), ElectraConfig(**ENCODER, d_embedding=10)

MAMBA = Mamba2Config(head_dim=8, d_state=10, n_groups=2, chunk=8, norm_eps=1e-4)
MAMBA2 = Mamba2ModelConfig(vocab_size=61, d_model=24, n_layers=2, mamba=MAMBA, max_seq_len=64, tie_embeddings=False)
BAMBA = BambaConfig(vocab_size=61, d_model=24, n_layers=3, attention_layers=(1,), n_heads=2, d_ff=40, mamba=MAMBA, max_seq_len=64)

CASES: dict[str, HubConfig] = {
    "llama": LLAMA,
    "llama, tied and grouped": LLAMA.replace(tie_embeddings=True, n_kv_heads=2, rope_theta=500_000.0),
    "llama, multi-query with its own head_dim": LLAMA.replace(n_kv_heads=1, head_dim=10),
    "bert": BERT,
    "bert, one part and another activation": BERT.replace(n_parts=1, activation="gelu_tanh", norm_eps=1e-3),
    "roberta": ROBERTA,
    "roberta, two parts": ROBERTA.replace(n_parts=2, activation="relu"),
    "albert": ALBERT,
    "albert, two distinct layers": ALBERT.replace(n_distinct_layers=2, activation="gelu"),
    "electra": ELECTRA,
    "electra, embeddings as wide as the model": ELECTRA.replace(d_embedding=24),
    "mamba2": MAMBA2,
    "mamba2, tied, biases, limited steps": MAMBA2.replace(
        tie_embeddings=True, mamba=MAMBA.replace(expand=1, n_groups=1, conv_width=3, bias=True, conv_bias=False, dt_limit=(0.1, 0.8), chunk=64),
    ),
    "bamba": BAMBA,
    "bamba, untied, biases, grouped": BAMBA.replace(
        tie_embeddings=False, attention_layers=(0, 2), attention_bias=True, ff_bias=True, n_kv_heads=1, rope_theta=500_000.0,
        mamba=MAMBA.replace(n_groups=3, bias=True, chunk=5),
    ),
}

T5 = T5Config(vocab_size=61, d_model=24, n_layers=2, n_heads=4, d_ff=40, max_seq_len=64, n_buckets=8, max_distance=20)

ENCODER_DECODER_CASES: dict[str, HubConfig] = {
    "t5 1.1": T5,
    "t5 1.0": T5.replace(feed_forward="relu", tie_embeddings=True, norm_eps=1e-4),
    "t5, its own head_dim, more layers in the encoder": T5.replace(head_dim=10, n_encoder_layers=3, feed_forward="gated_silu", n_buckets=32),
}
