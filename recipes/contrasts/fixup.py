"""Whether a deep model can do without norms: with Fixup it can."""

from __future__ import annotations

from bloomery.nn import LayerNormConfig, NoNormConfig, PreNorm, UntiedConfig
from bloomery.nn.fixup import Fixup, FixupInit
from bloomery.nn.scaled_inits import HeInit, XavierInit
from bloomery.optim import AdamW, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_contrast, tale_model
from bloomery.stages.contrast import Trial


def fixup(*, n_layers: int = 24, d_model: int = 64, steps: int = 150, learning_rate: float = 2e-3, seed: int = 0) -> Recipe:
    """Trains 24 layers with norms, without norms by Fixup, and without norms by an initialisation alone."""
    base = tale_model(d_model=d_model, n_layers=n_layers, norm=NoNormConfig(), placement=PreNorm(), head=UntiedConfig(), init=HeInit())
    models = {
        "layer norms": base.replace(norm=LayerNormConfig()),
        "no norms, Fixup": base.replace(placement=Fixup(), init=FixupInit(embedding=1.0)),
        "no norms, Xavier": base.replace(init=XavierInit()),
        "no norms, He": base,
    }
    trials = tuple(
        Trial(name=name, model=model, optimizer=AdamW(learning_rate=learning_rate), schedule=WarmupCosine()) for name, model in models.items()
    )
    return tale_contrast("fixup", f"{n_layers} layers with and without norms", trials, steps=steps, seed=seed)
