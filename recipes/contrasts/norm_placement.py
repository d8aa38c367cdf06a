"""Where the norms stand, and what warm-up is for: post-norm needs it, pre-norm does not."""

from __future__ import annotations

from bloomery.nn import FanInInit, LayerNormConfig, PostNorm, PreNorm
from bloomery.optim import AdamW, Constant
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_contrast, tale_model
from bloomery.stages.contrast import Trial


def norm_placement(
    *, n_layers: int = 12, d_model: int = 64, steps: int = 150, learning_rate: float = 4e-3, warmup: float = 0.3, seed: int = 0
) -> Recipe:
    """Trains a deep, narrow model four ways: norms before or behind the branches, with a warm-up of --warmup of the steps and without."""
    trials = [
        Trial(
            name=f"{where}, {how}", optimizer=AdamW(learning_rate=learning_rate, betas=(0.9, 0.98)), schedule=Constant(warmup=extent),
            clip_norm=None,
            model=tale_model(
                d_model=d_model, n_layers=n_layers, norm=LayerNormConfig(), placement=placement, init=FanInInit(embedding=d_model**-0.5),
            ),
        )
        for where, placement in (("pre-norm", PreNorm()), ("post-norm", PostNorm()))
        for how, extent in (("no warm-up", 0), ("warm-up", warmup))
    ]  # fmt: skip
    title = f"Pre-norm against post-norm, {n_layers} layers deep, with and without warm-up"
    return tale_contrast("norm_placement", title, trials, steps=steps, seed=seed)
