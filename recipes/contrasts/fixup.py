"""Whether a deep model can do without norms: with Fixup it can."""

from __future__ import annotations

from bloomery.models import TransformerConfig
from bloomery.nn import AttentionConfig, LayerNormConfig, NoNormConfig, PlainConfig, PreNorm, UntiedConfig
from bloomery.nn.fixup import Fixup, FixupInit
from bloomery.nn.scaled_inits import HeInit, XavierInit
from bloomery.optim import AdamW, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.contrast import Contrast, Trial


def fixup(*, n_layers: int = 24, d_model: int = 64, steps: int = 150, learning_rate: float = 2e-3, seed: int = 0) -> Recipe:
    """Trains 24 layers with norms, without norms by Fixup, and without norms by an initialisation alone."""
    tales = tale_tokens(seed=seed)
    base = TransformerConfig(
        vocab_size=1024, d_model=d_model, n_layers=n_layers, max_seq_len=64, mixers=(AttentionConfig(n_heads=4),),
        feed_forwards=(PlainConfig(d_ff=4 * d_model),), norm=NoNormConfig(), placement=PreNorm(), head=UntiedConfig(), init=HeInit(),
    )
    models = {
        "layer norms": base.replace(norm=LayerNormConfig()),
        "no norms, Fixup": base.replace(placement=Fixup(), init=FixupInit(embedding=1.0)),
        "no norms, Xavier": base.replace(init=XavierInit()),
        "no norms, He": base,
    }
    trials = tuple(
        Trial(name=name, model=model, optimizer=AdamW(learning_rate=learning_rate), schedule=WarmupCosine()) for name, model in models.items()
    )
    contrast = Contrast(
        name="fixup", title=f"{n_layers} layers with and without norms", tokenizer=tales.tokenizer, tokens=tales.read, held_out=tales.unread,
        trials=trials, max_seq_len=64, batch_tokens=1024, steps=steps, seed=seed,
    )
    return Recipe(name="fixup", wanted=(contrast,))
