"""Growing a trained model against training the large one from the start: deeper, wider, and by taking it twice."""

from __future__ import annotations

from bloomery.core.units import human_count
from bloomery.models import LlamaConfig
from bloomery.models.growth import Deepen, Duplicate, ModelChange, Widen
from bloomery.optim import AdamW, Muon, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.convert import Convert
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.report import Report
from bloomery.stages.train import Share, Train, Watch

VOCABULARY = 512


def growth(*, base_steps: int = 600, steps: int = 300, learning_rate: float = 3e-3, seed: int = 0) -> Recipe:
    """Trains a small model, makes larger ones of it in three ways, and trains each on beside one of their size from scratch."""
    tales = tale_tokens(count=20_000, vocab_size=VOCABULARY, seed=seed)
    small = LlamaConfig(vocab_size=VOCABULARY, d_model=96, n_layers=4, n_heads=6, d_ff=256, max_seq_len=256)
    common = {
        "tokenizer": tales.tokenizer, "sources": (Share(tokens=tales.read),), "max_seq_len": 256, "batch_tokens": 4096,
        "optimizer": Muon(learning_rate=learning_rate, others=AdamW(learning_rate=learning_rate)), "schedule": WarmupCosine(),
        "watch": Watch(held_out=(tales.unread,), every=max(1, steps // 10)),
    }  # fmt: skip
    base = Train(name="small", init=Scratch(model=small), steps=base_steps, seed=seed, **common)
    ways: dict[str, ModelChange] = {
        "deeper": Deepen(n_layers=6, seed=seed), "twice": Duplicate(n_layers=6), "wider": Widen(d_model=128, n_heads=8, d_ff=320, seed=seed),
    }  # fmt: skip
    grown = [
        Train(name=name, init=Continue(base=Convert(name=name, base=base, change=change)), steps=steps, seed=seed + 1, **common)
        for name, change in ways.items()
    ]
    large = small.replace(n_layers=6)
    scratch = Train(name="six_layers", init=Scratch(model=large), steps=steps, seed=seed + 1, **common)
    longer = Train(name="six_layers_longer", init=Scratch(model=large), steps=base_steps + steps, seed=seed, **common)
    report = Report(
        name="growth", title=f"{human_count(small.n_params)} parameters grown in three ways, and {human_count(large.n_params)} from the start",
        trainings=(base, *grown, scratch, longer),
    )
    return Recipe(name="growth", wanted=(report,))
