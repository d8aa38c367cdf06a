"""Where the norms stand, and what warm-up is for: post-norm needs it, pre-norm does not."""

from __future__ import annotations

from bloomery.models import TransformerConfig
from bloomery.nn import AttentionConfig, FanInInit, LayerNormConfig, PlainConfig, PostNorm, PreNorm
from bloomery.optim import AdamW, Constant
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.contrast import Contrast, Trial


def norm_placement(
    *, n_layers: int = 12, d_model: int = 64, steps: int = 150, learning_rate: float = 4e-3, warmup: float = 0.3, seed: int = 0
) -> Recipe:
    """Trains a deep, narrow model four ways: norms before or behind the branches, with a warm-up of --warmup of the steps and without."""
    tales = tale_tokens(seed=seed)
    trials = [
        Trial(
            name=f"{where}, {how}", optimizer=AdamW(learning_rate=learning_rate, betas=(0.9, 0.98)), schedule=Constant(warmup=extent),
            clip_norm=None,
            model=TransformerConfig(
                vocab_size=1024, d_model=d_model, n_layers=n_layers, max_seq_len=64, mixers=(AttentionConfig(n_heads=4),),
                feed_forwards=(PlainConfig(d_ff=4 * d_model),), norm=LayerNormConfig(), placement=placement,
                init=FanInInit(embedding=d_model**-0.5),
            ),
        )
        for where, placement in (("pre-norm", PreNorm()), ("post-norm", PostNorm()))
        for how, extent in (("no warm-up", 0), ("warm-up", warmup))
    ]  # fmt: skip
    contrast = Contrast(
        name="norm_placement", title=f"Pre-norm against post-norm, {n_layers} layers deep, with and without warm-up",
        tokenizer=tales.tokenizer, tokens=tales.read, held_out=tales.unread, trials=tuple(trials), max_seq_len=64, batch_tokens=1024,
        steps=steps, seed=seed,
    )  # fmt: skip
    return Recipe(name="norm_placement", wanted=(contrast,))
