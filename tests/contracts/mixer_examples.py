"""A value of every mixer, by class name, for the contracts: d_model 24, at most 32 tokens."""

from bloomery.nn import AlibiConfig, AttentionConfig, MixerConfig, RMSNormConfig

EXAMPLES: dict[str, tuple[MixerConfig, ...]] = {
    "AttentionConfig": (
        AttentionConfig(n_heads=4, n_kv_heads=2, head_dim=8),
        AttentionConfig(n_heads=4, n_kv_heads=1, head_dim=6, window=3, qk_norm=RMSNormConfig(), softcap=5.0, qkv_bias=True, out_bias=True),
        AttentionConfig(n_heads=3, positions=AlibiConfig(), window=4, qk_norm=RMSNormConfig(), qk_norm_over="all", scale=0.2),
    ),
}
