"""From multi-head to grouped-query attention: pooled heads against first heads, before and after a little more training."""

from __future__ import annotations

from bloomery.models import LlamaConfig
from bloomery.models.growth import GroupHeads
from bloomery.optim import AdamW, Muon, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.convert import Convert
from bloomery.stages.report import Report
from bloomery.stages.train import Continue, Scratch, Share, Train, Watch

VOCABULARY = 512


def grouped_queries(
    *, steps: int = 1500, uptraining: float = 0.05, n_kv_heads: int = 2, learning_rate: float = 3e-3, seed: int = 0
) -> Recipe:
    """Trains a small model with 8 key-value heads, leaves it --n-kv-heads of them, and trains on for --uptraining of the steps."""
    tales = tale_tokens(count=40_000, vocab_size=VOCABULARY, seed=seed)
    model = LlamaConfig(vocab_size=VOCABULARY, d_model=64, n_layers=5, n_heads=8, d_ff=172, max_seq_len=256)
    rates = Muon(learning_rate=learning_rate, others=AdamW(learning_rate=learning_rate))
    common = {
        "tokenizer": tales.tokenizer, "sources": (Share(tokens=tales.read),), "max_seq_len": 256, "batch_tokens": 4096, "optimizer": rates,
    }  # fmt: skip
    base = Train(
        name="eight_heads", init=Scratch(model=model), steps=steps, schedule=WarmupCosine(), seed=seed, watch=Watch(held_out=(tales.unread,)),
        **common,
    )  # fmt: skip
    more = max(1, round(steps * uptraining))
    watch = Watch(held_out=(tales.unread,), every=max(1, more // 5))
    kept_on = Train(name="eight_heads_on", init=Continue(base=base), steps=more, schedule=WarmupCosine(), seed=seed + 1, watch=watch, **common)
    grouped = [
        Train(
            name=f"{by}_of_heads", steps=more, schedule=WarmupCosine(), seed=seed + 1, watch=watch,
            init=Continue(base=Convert(name=f"{by}_of_heads", base=base, change=GroupHeads(n_kv_heads=n_kv_heads, by=by))), **common,
        )
        for by in ("mean", "first")
    ]  # fmt: skip
    report = Report(
        name="grouped_queries", title=f"8 key-value heads become {n_kv_heads}, with {more} steps of training afterwards",
        trainings=(base, *grouped, kept_on),
    )
    return Recipe(name="grouped_queries", wanted=(report,))
