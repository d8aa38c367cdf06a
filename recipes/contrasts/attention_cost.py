"""What attention and its substitutes cost against the length of what they read."""

from __future__ import annotations

from bloomery.nn import (
    AttentionConfig,
    BlockSparseAttentionConfig,
    HashedAttentionConfig,
    LinearAttentionConfig,
    LinformerConfig,
    Mamba2Config,
    NystromConfig,
)
from bloomery.recipe import Recipe
from bloomery.stages.cost_curve import CostCurve, Curve


def attention_cost(
    *, longest: int = 4096, shortest: int = 256, d_model: int = 256, n_heads: int = 4, repeats: int = 5, threads: int = 1, seed: int = 0
) -> Recipe:
    """Measures time, memory and error of each mixer at lengths that double, from the shortest to the longest."""
    lengths = [shortest]
    while lengths[-1] < longest:
        lengths.append(min(2 * lengths[-1], longest))
    few = min(64, shortest)
    curves = (
        Curve(name="full", mixer=AttentionConfig(n_heads=n_heads)),
        Curve(name="full, unmasked", mixer=AttentionConfig(n_heads=n_heads), causal=False),
        Curve(name="window of 128", mixer=AttentionConfig(n_heads=n_heads, window=128)),
        Curve(name="block-sparse", mixer=BlockSparseAttentionConfig(n_heads=n_heads, block=32, n_global=1, n_local=1, n_random=2)),
        Curve(name="hashed", mixer=HashedAttentionConfig(n_heads=n_heads, n_buckets=16, n_rounds=4, window=32)),
        Curve(name="Linformer", mixer=LinformerConfig(n_heads=n_heads, n_mixtures=2 * few)),
        Curve(name="Nyström", mixer=NystromConfig(n_heads=n_heads, n_landmarks=few)),
        Curve(name="linear", mixer=LinearAttentionConfig(n_heads=n_heads)),
        Curve(name="Mamba-2", mixer=Mamba2Config(head_dim=d_model // n_heads, d_state=64)),
    )
    title = f"The cost of attention against length: d_model {d_model}, {n_heads} heads, one row, {threads} thread{'s'[:threads > 1]} of the CPU"
    measured = CostCurve(title=title, curves=curves, lengths=tuple(lengths), d_model=d_model, repeats=repeats, threads=threads, seed=seed)
    return Recipe(name="attention_cost", wanted=(measured,))
