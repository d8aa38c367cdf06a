"""A value of every mixer, by class name, for the contracts: d_model 24, at most 32 tokens."""

from bloomery.nn import (
    AlibiConfig,
    AttentionConfig,
    BlockSparseAttentionConfig,
    DisentangledConfig,
    HashedAttentionConfig,
    LatentAttentionConfig,
    LayerNormConfig,
    LinearAttentionConfig,
    LinformerConfig,
    Mamba2Config,
    MixerConfig,
    NoPositionsConfig,
    NystromConfig,
    RMSNormConfig,
)

EXAMPLES: dict[str, tuple[MixerConfig, ...]] = {
    "AttentionConfig": (
        AttentionConfig(n_heads=4, n_kv_heads=2, head_dim=8),
        AttentionConfig(n_heads=4, n_kv_heads=1, head_dim=6, window=3, qk_norm=RMSNormConfig(), softcap=5.0, qkv_bias=True, out_bias=True),
        AttentionConfig(n_heads=3, positions=AlibiConfig(), window=4, qk_norm=RMSNormConfig(), qk_norm_over="all", scale=0.2),
    ),
    "DisentangledConfig": (
        DisentangledConfig(n_heads=4, n_buckets=6, max_distance=20, shared_maps=True, table_norm=LayerNormConfig()),
        DisentangledConfig(n_heads=3, max_distance=8),
        DisentangledConfig(n_heads=2, terms="content_to_position", n_buckets=8, max_distance=32, shared_maps=True),
        DisentangledConfig(n_heads=2, terms="position_to_content", n_buckets=4, max_distance=32),
    ),
    "LatentAttentionConfig": (
        LatentAttentionConfig(n_heads=3, d_latent=40, head_dim=8, rope_dim=6),  # up to 9 new tokens are read folded, more unfolded
        LatentAttentionConfig(n_heads=2, d_latent=6, d_query_latent=7, head_dim=8, rope_dim=4, value_dim=5, pairs="neighbours", scale=0.3),
    ),
    "LinearAttentionConfig": (
        LinearAttentionConfig(n_heads=4, chunk=5),
        LinearAttentionConfig(n_heads=2, head_dim=7, qkv_bias=True, out_bias=True),
    ),
    "Mamba2Config": (
        Mamba2Config(head_dim=8, d_state=6, n_groups=2, chunk=5),
        Mamba2Config(expand=1, head_dim=12, d_state=16, conv_width=2, conv_bias=False, bias=True, dt_limit=(0.01, 0.5), chunk=1),
        Mamba2Config(head_dim=16, d_state=4, n_groups=3, conv_width=1),
    ),
    "BlockSparseAttentionConfig": (
        BlockSparseAttentionConfig(n_heads=4, n_kv_heads=2, block=2, n_global=1, n_random=1),
        BlockSparseAttentionConfig(n_heads=3, block=1, n_local=1, n_global=0, n_random=2, positions=AlibiConfig(), qkv_bias=True),
        BlockSparseAttentionConfig(n_heads=2, block=8, n_local=0, qk_norm=RMSNormConfig(), out_bias=True),
    ),
    "HashedAttentionConfig": (
        HashedAttentionConfig(n_heads=4, n_buckets=2, n_rounds=3, window=8),
        HashedAttentionConfig(n_heads=2, head_dim=8, n_buckets=4, n_rounds=8, window=3, positions=NoPositionsConfig(), qkv_bias=True),
        HashedAttentionConfig(n_heads=3, n_buckets=1, n_rounds=1, window=12),
    ),
    "LinformerConfig": (
        LinformerConfig(n_heads=4, n_kv_heads=2, n_mixtures=6),
        LinformerConfig(n_heads=2, n_mixtures=32, qk_norm=RMSNormConfig(), qkv_bias=True, out_bias=True, scale=0.5),
    ),
    "NystromConfig": (
        NystromConfig(n_heads=4, n_kv_heads=1, n_landmarks=4),
        NystromConfig(n_heads=2, n_landmarks=16, positions=NoPositionsConfig(), qk_norm=RMSNormConfig(), qkv_bias=True, out_bias=True),
    ),
}
