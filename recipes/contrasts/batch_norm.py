"""Why text has layer norms: statistics over a batch of text are noisy, and do not hold for what comes later."""

from __future__ import annotations

from bloomery.models import TransformerConfig
from bloomery.nn import AttentionConfig, FanInInit, LayerNormConfig, PlainConfig, RMSNormConfig
from bloomery.nn.batch_norm import BatchNormConfig
from bloomery.optim import AdamW, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.contrast import Contrast, Trial


def batch_norm(*, n_layers: int = 6, d_model: int = 64, steps: int = 300, learning_rate: float = 2e-3, seed: int = 0) -> Recipe:
    """Trains one model with layer norms, with root-mean-square norms and with batch norms."""
    tales = tale_tokens(seed=seed)
    norms = {"LayerNorm": LayerNormConfig(), "RMSNorm": RMSNormConfig(), "BatchNorm": BatchNormConfig()}
    trials = tuple(
        Trial(
            name=name, optimizer=AdamW(learning_rate=learning_rate), schedule=WarmupCosine(),
            model=TransformerConfig(
                vocab_size=1024, d_model=d_model, n_layers=n_layers, max_seq_len=64, mixers=(AttentionConfig(n_heads=4),),
                feed_forwards=(PlainConfig(d_ff=4 * d_model),), norm=norm, init=FanInInit(embedding=d_model**-0.5),
            ),
        )
        for name, norm in norms.items()
    )  # fmt: skip
    contrast = Contrast(
        name="batch_norm", title="Layer norm against batch norm on text", tokenizer=tales.tokenizer, tokens=tales.read, held_out=tales.unread,
        trials=trials, max_seq_len=64, batch_tokens=1024, steps=steps, seed=seed,
    )
    return Recipe(name="batch_norm", wanted=(contrast,))
