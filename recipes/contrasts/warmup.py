"""How much warm-up a post-norm model needs."""

from __future__ import annotations

from bloomery.nn import FanInInit, LayerNormConfig, PostNorm
from bloomery.optim import AdamW, Constant
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_contrast, tale_model
from bloomery.stages.contrast import Trial


def warmup(*, n_layers: int = 12, d_model: int = 64, steps: int = 150, learning_rate: float = 4e-3, seed: int = 0) -> Recipe:
    """Trains one deep post-norm model with no warm-up, and with one over 2 %, 10 % and 30 % of the steps."""
    init = FanInInit(embedding=d_model**-0.5)
    model = tale_model(d_model=d_model, n_layers=n_layers, norm=LayerNormConfig(), placement=PostNorm(), init=init)
    trials = tuple(
        Trial(
            name=f"{share:.0%} of the steps", model=model, optimizer=AdamW(learning_rate=learning_rate, betas=(0.9, 0.98)),
            schedule=Constant(warmup=share), clip_norm=None,
        )
        for share in (0.0, 0.02, 0.1, 0.3)
    )
    return tale_contrast("warmup", f"Warm-up of a post-norm model, {n_layers} layers deep", trials, steps=steps, seed=seed)
