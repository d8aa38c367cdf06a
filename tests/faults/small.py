"""From files to a model at the smallest size: a recipe whose source, size and length are dials."""

from __future__ import annotations

from bloomery.data import Cut
from bloomery.models import LlamaConfig
from bloomery.optim import AdamW
from bloomery.recipe import Recipe
from bloomery.stages.init import Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.text.readers import Files


def small(*, text: str, steps: int = 12, batch_tokens: int = 256, d_model: int = 32, n_heads: int = 2, learning_rate: float = 3e-3) -> Recipe:
    """Documents in several parts, a tokenizer, a training with an average of its weights."""
    corpus = Prepare(source=Files(path=text), held_out=0.1, shard_bytes=16 << 10)
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=300)
    told = Tokenize(name="told", corpus=corpus, tokenizer=tokenizer)
    unread = Tokenize(name="unread", corpus=corpus, tokenizer=tokenizer, split="held_out")
    model = LlamaConfig(vocab_size=300, d_model=d_model, n_layers=1, n_heads=n_heads, max_seq_len=64)
    train = Train(
        tokenizer=tokenizer, init=Scratch(model=model), sources=(Share(tokens=told),), packing=Cut(), max_seq_len=64,
        batch_tokens=batch_tokens, steps=steps, ema=0.9, optimizer=AdamW(learning_rate=learning_rate),
        watch=Watch(held_out=(unread,), tokens=512),
    )  # fmt: skip
    return Recipe(name="small", wanted=(train,))
