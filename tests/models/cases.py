"""Small configs of every named family, for `test_parity.py`: add a family's variants here and all its laws are tested."""

from __future__ import annotations

from bloomery.models import (
    AlbertConfig,
    BambaConfig,
    BertConfig,
    DebertaConfig,
    DeepseekV3Config,
    ElectraConfig,
    Gemma2Config,
    Gemma3Config,
    GemmaConfig,
    Gpt2Config,
    HubConfig,
    LlamaConfig,
    Mamba2ModelConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OlmoeConfig,
    Qwen3Config,
    RobertaConfig,
    T5Config,
)
from bloomery.nn import LinearScaling, Llama3Scaling, Mamba2Config, YarnScaling

LLAMA = LlamaConfig(vocab_size=61, d_model=24, n_layers=2, n_heads=4, d_ff=40, max_seq_len=64, tie_embeddings=False, norm_eps=1e-4)
SIZES = {"vocab_size": 61, "d_model": 24, "n_layers": 3, "n_heads": 4, "d_ff": 40, "max_seq_len": 64, "norm_eps": 1e-4}
GPT2, MISTRAL, QWEN3, OLMO2 = Gpt2Config(**SIZES), MistralConfig(**SIZES, window=7), Qwen3Config(**SIZES), Olmo2Config(**SIZES)
GEMMA, GEMMA2, GEMMA3 = GemmaConfig(**SIZES), Gemma2Config(**SIZES, windows=(7, None)), Gemma3Config(**SIZES, windows=(5, 5, None))
LINEAR, LLAMA3 = LinearScaling(factor=4), Llama3Scaling(factor=4, original_max_seq_len=16)  # texts of 33 tokens are longer than that
YARN = YarnScaling(factor=4, original_max_seq_len=16, beta_fast=2, beta_slow=0.3)

ENCODER = {"vocab_size": 61, "d_model": 24, "n_layers": 4, "n_heads": 4, "d_ff": 40, "max_seq_len": 64}
BERT, ROBERTA = BertConfig(**ENCODER), RobertaConfig(**ENCODER)
ALBERT, ELECTRA = AlbertConfig(**ENCODER, d_embedding=10), ElectraConfig(**ENCODER, d_embedding=10)

EXPERTS = SIZES | {"n_layers": 2, "d_ff": 20, "n_experts": 5, "n_active": 2, "tie_embeddings": False}
MIXTRAL, OLMOE = MixtralConfig(**EXPERTS), OlmoeConfig(**EXPERTS)
DEEPSEEK = DeepseekV3Config(
    **EXPERTS | {"n_experts": 8, "n_active": 3}, d_expert=12, n_groups=4, n_active_groups=2, routed_scale=1.5, d_latent=10, d_query_latent=11,
    head_dim=7, rope_dim=6, value_dim=5,
)  # fmt: skip

MAMBA = Mamba2Config(head_dim=8, d_state=10, n_groups=2, chunk=8, norm_eps=1e-4)
MAMBA2 = Mamba2ModelConfig(vocab_size=61, d_model=24, n_layers=2, mamba=MAMBA, max_seq_len=64, tie_embeddings=False)
BAMBA = BambaConfig(
    vocab_size=61, d_model=24, n_layers=3, attention_layers=(1,), n_heads=2, d_ff=40, mamba=MAMBA.replace(n_groups=1), max_seq_len=64,
)  # fmt: skip

DEBERTA = DebertaConfig(vocab_size=61, d_model=24, n_layers=3, n_heads=4, d_ff=40, max_seq_len=64, n_buckets=8)

CASES: dict[str, HubConfig] = {
    "llama": LLAMA,
    "llama, tied and grouped": LLAMA.replace(tie_embeddings=True, n_kv_heads=2, rope_theta=500_000.0),
    "llama, multi-query with its own head_dim": LLAMA.replace(n_kv_heads=1, head_dim=10),
    "llama, biases, llama3 scaling": LLAMA.replace(attention_bias=True, rope_scaling=LLAMA3, rope_theta=100.0, n_kv_heads=2),
    "llama, linear scaling": LLAMA.replace(rope_scaling=LINEAR),
    "llama, yarn scaling": LLAMA.replace(rope_scaling=YARN, head_dim=12, rope_theta=1000.0),
    "llama, yarn scaling, its own factor, no rounding": LLAMA.replace(
        rope_scaling=YARN.replace(attention_factor=0.7, truncate=False), head_dim=12, rope_theta=1000.0,
    ),
    "gpt2": GPT2,
    "gpt2, untied": GPT2.replace(tie_embeddings=False, n_heads=3),
    "mistral": MISTRAL,
    "mistral, tied, grouped, all-seeing": MISTRAL.replace(window=None, n_kv_heads=2, head_dim=10, tie_embeddings=True, rope_scaling=LINEAR),
    "qwen3": QWEN3,
    "qwen3, grouped, biases, windows, yarn": QWEN3.replace(
        tie_embeddings=False, n_kv_heads=2, head_dim=12, attention_bias=True, windows=(None, 6), rope_scaling=YARN, rope_theta=1000.0,
    ),
    "olmo2": OLMO2,
    "olmo2, tied, grouped, biases, scaled": OLMO2.replace(
        tie_embeddings=True, n_kv_heads=2, head_dim=10, attention_bias=True, rope_scaling=LLAMA3, rope_theta=100.0,
    ),
    "gemma": GEMMA,
    "gemma, untied, multi-query, biases": GEMMA.replace(tie_embeddings=False, n_kv_heads=1, head_dim=10, attention_bias=True),
    "gemma2": GEMMA2.replace(attention_softcap=1.5, logit_softcap=2.0),
    "gemma2, untied, grouped, no caps, its own scale": GEMMA2.replace(
        tie_embeddings=False, n_kv_heads=2, head_dim=10, attention_softcap=None, logit_softcap=None, query_pre_attn_scalar=23, windows=(None,),
        attention_bias=True, rope_scaling=LINEAR,
    ),
    "gemma3": GEMMA3,
    "gemma3, untied, grouped, capped, two thetas": GEMMA3.replace(
        tie_embeddings=False, n_kv_heads=2, head_dim=10, query_pre_attn_scalar=23, logit_softcap=2.0, rope_theta=500.0, local_rope_theta=50.0,
        rope_scaling=LINEAR, attention_bias=True, windows=(None, 9, 9),
    ),
    "mixtral": MIXTRAL,
    "mixtral, one of three, tied, grouped, a window": MIXTRAL.replace(n_experts=3, n_active=1, tie_embeddings=True, n_kv_heads=2, window=7),
    "olmoe": OLMOE,
    "olmoe, renormalised and grouped": OLMOE.replace(renormalise=True, n_kv_heads=2, n_active=5),
    "deepseek v3": DEEPSEEK,
    "deepseek v3, all dense but one, no groups, a short query": DEEPSEEK.replace(
        n_layers=3, n_dense_layers=2, n_groups=1, n_active_groups=1, renormalise=False, n_shared=2, d_query_latent=None, value_dim=9,
        tie_embeddings=True,
    ),
    "deepseek v3, stretched": DEEPSEEK.replace(rope_scaling=YARN.replace(attention_factor=1.0), sharpening=0.8),
    "bert": BERT,
    "bert, one part and another activation": BERT.replace(n_parts=1, activation="gelu_tanh", norm_eps=1e-3),
    "roberta": ROBERTA,
    "roberta, two parts": ROBERTA.replace(n_parts=2, activation="relu"),
    "albert": ALBERT,
    "albert, two distinct layers": ALBERT.replace(n_distinct_layers=2, activation="gelu"),
    "deberta": DEBERTA,
    "deberta, maps of positions, no buckets": DEBERTA.replace(shared_maps=False, n_buckets=None, max_distance=20, legacy_names=False),
    "deberta, content to position": DEBERTA.replace(terms="content_to_position", n_parts=2, norm_distances=False),
    "deberta, position to content": DEBERTA.replace(terms="position_to_content", shared_maps=False, norm_eps=1e-3, activation="gelu_tanh"),
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


def unlike_version_4(config: HubConfig) -> str:
    """Why version 4 of transformers, up to 4.57 at least, does not say what version 5 does of such a model; empty where it does."""
    if isinstance(config, Mamba2ModelConfig | BambaConfig) and config.mamba.n_groups > 1:
        return "its layers without a GPU norm all groups of a Mamba-2 as one"
    if isinstance(config, Olmo2Config) and not isinstance(config.rope_scaling, LinearScaling | None):
        return "it refuses any scaling of an OLMo 2's positions but a linear one"
    return ""
