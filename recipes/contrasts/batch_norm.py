"""Why text has layer norms: statistics over a batch of text are noisy, and do not hold for what comes later."""

from __future__ import annotations

from bloomery.nn import FanInInit, LayerNormConfig, RMSNormConfig
from bloomery.nn.batch_norm import BatchNormConfig
from bloomery.optim import AdamW, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_contrast, tale_model
from bloomery.stages.contrast import Trial


def batch_norm(*, n_layers: int = 6, d_model: int = 64, steps: int = 300, learning_rate: float = 2e-3, seed: int = 0) -> Recipe:
    """Trains one model with layer norms, with root-mean-square norms and with batch norms."""
    norms = {"LayerNorm": LayerNormConfig(), "RMSNorm": RMSNormConfig(), "BatchNorm": BatchNormConfig()}
    trials = tuple(
        Trial(
            name=name, optimizer=AdamW(learning_rate=learning_rate), schedule=WarmupCosine(),
            model=tale_model(d_model=d_model, n_layers=n_layers, norm=norm, init=FanInInit(embedding=d_model**-0.5)),
        )
        for name, norm in norms.items()
    )  # fmt: skip
    return tale_contrast("batch_norm", "Layer norm against batch norm on text", trials, steps=steps, seed=seed)
