"""Small configs of every named family, for `test_parity.py`: add a family's variants here and all its laws are tested."""

from __future__ import annotations

from bloomery.models import HubConfig, LlamaConfig

LLAMA = LlamaConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4, d_ff=40, max_seq_len=64, tie_embeddings=False, norm_eps=1e-4)

CASES: dict[str, HubConfig] = {
    "llama": LLAMA,
    "llama, tied and grouped": LLAMA.replace(tie_embeddings=True, n_kv_heads=2, rope_theta=500_000.0),
    "llama, multi-query with its own head_dim": LLAMA.replace(n_kv_heads=1, head_dim=10),
}
