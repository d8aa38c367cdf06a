"""From multi-head to grouped-query attention: pooled heads against first heads, before and after a little more training."""

from __future__ import annotations

from bloomery.models import LlamaConfig
from bloomery.models.growth import GroupHeads
from bloomery.optim import WSD, AdamW, Constant, Muon
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_tokens
from bloomery.stages.convert import Convert
from bloomery.stages.init import Continue, Init, Scratch
from bloomery.stages.report import Report
from bloomery.stages.train import Share, Train, Watch

VOCABULARY = 512
BATCH, SMALL_BATCH = 2048, 1024  # tokens in a step of the base, and of what follows: more steps from the same tokens


def grouped_queries(
    *, steps: int = 3000, uptraining: float = 0.05, n_kv_heads: int = 2, learning_rate: float = 3e-3, seed: int = 0
) -> Recipe:
    """Trains a small model with 8 key-value heads, leaves it --n-kv-heads of them, and trains on with --uptraining of the tokens.

    The rate stays up until the heads are grouped and falls to nothing afterwards, so that no model is warmed up twice; `eight_heads_on`,
    whose heads are left and whose rate falls over the same tokens, is what the others are to be held against.
    """
    tales = tale_tokens(count=100_000, vocab_size=VOCABULARY, seed=seed)
    model = LlamaConfig(vocab_size=VOCABULARY, d_model=64, n_layers=5, n_heads=8, d_ff=172, max_seq_len=256)
    common = {
        "tokenizer": tales.tokenizer, "sources": (Share(tokens=tales.read),), "max_seq_len": 256,
        "optimizer": Muon(learning_rate=learning_rate, others=AdamW(learning_rate=learning_rate)),
    }  # fmt: skip
    base = Train(
        name="eight_heads", init=Scratch(model=model), steps=steps, batch_tokens=BATCH, schedule=Constant(warmup=100), seed=seed,
        watch=Watch(held_out=(tales.unread,)), **common,
    )  # fmt: skip
    more = max(1, round(steps * uptraining)) * BATCH // SMALL_BATCH

    def train_on(name: str, init: Init) -> Train:
        return Train(
            name=name, init=init, steps=more, batch_tokens=SMALL_BATCH, schedule=WSD(warmup=10, decay=1.0), seed=seed + 1,
            watch=Watch(held_out=(tales.unread,), every=max(1, more // 6)), **common,
        )  # fmt: skip

    grouped = [
        train_on(by, Continue(base=Convert(name=by, base=base, change=GroupHeads(n_kv_heads=n_kv_heads, by=by))))
        for by in ("components", "mean", "first")
    ]
    report = Report(
        name="grouped_queries", title=f"8 key-value heads become {n_kv_heads}, with {uptraining:.0%} of the tokens of training afterwards",
        trainings=(base, *grouped, train_on("eight_heads_on", Continue(base=base))),
    )
    return Recipe(name="grouped_queries", wanted=(report,))
