"""How much warm-up a post-norm model needs."""

from __future__ import annotations

from bloomery.models import TransformerConfig
from bloomery.nn import AttentionConfig, FanInInit, LayerNormConfig, PlainConfig, PostNorm
from bloomery.optim import AdamW, Constant
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.contrast import Contrast, Trial


def warmup(*, n_layers: int = 12, d_model: int = 64, steps: int = 150, learning_rate: float = 4e-3, seed: int = 0) -> Recipe:
    """Trains one deep post-norm model with no warm-up, and with one over 2 %, 10 % and 30 % of the steps."""
    tales = tale_tokens(seed=seed)
    model = TransformerConfig(
        vocab_size=1024, d_model=d_model, n_layers=n_layers, max_seq_len=64, mixers=(AttentionConfig(n_heads=4),),
        feed_forwards=(PlainConfig(d_ff=4 * d_model),), norm=LayerNormConfig(), placement=PostNorm(), init=FanInInit(embedding=d_model**-0.5),
    )
    trials = tuple(
        Trial(
            name=f"{share:.0%} of the steps", model=model, optimizer=AdamW(learning_rate=learning_rate, betas=(0.9, 0.98)),
            schedule=Constant(warmup=share), clip_norm=None,
        )
        for share in (0.0, 0.02, 0.1, 0.3)
    )
    contrast = Contrast(
        name="warmup", title=f"Warm-up of a post-norm model, {n_layers} layers deep", tokenizer=tales.tokenizer, tokens=tales.read,
        held_out=tales.unread, trials=trials, max_seq_len=64, batch_tokens=1024, steps=steps, seed=seed,
    )
    return Recipe(name="warmup", wanted=(contrast,))
