"""The tales as tokens: what the small recipes that compare things train on, alike for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bloomery.models import TransformerConfig
from bloomery.nn import AttentionConfig, PlainConfig
from bloomery.optim import AdamW, Muon
from bloomery.recipe.graph import Recipe
from bloomery.stages.contrast import Contrast, Trial
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.text.readers import TaleStories
from bloomery.text.tales import Tales


@dataclass(frozen=True)
class TaleTokens:
    """Short tales as tokens: `read` is trained on, `unread` is from worlds that are set aside."""

    tokenizer: TrainTokenizer
    read: Tokenize
    unread: Tokenize


def tale_tokens(*, count: int = 8000, vocab_size: int = 1024, seed: int = 0) -> TaleTokens:
    """`count` tales of about 130 tokens each, with a tokenizer learnt from them, and 400 tales to measure on."""
    corpus = Prepare(name="stories", source=TaleStories(tales=Tales(seed=seed, size="short"), count=count))
    aside = Prepare(name="unread", source=TaleStories(tales=Tales(seed=seed, size="short", split="held_out"), count=400))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=vocab_size, sample_bytes=4 << 20)
    read, unread = (Tokenize(name=one.name, corpus=one, tokenizer=tokenizer) for one in (corpus, aside))
    return TaleTokens(tokenizer, read, unread)


def tale_model(*, d_model: int, n_layers: int, **parts: Any) -> TransformerConfig:
    """A small stack of four-headed attention and feed-forward layers for the tales' 1,024 tokens, rows of 64; `parts` are what is compared."""
    common: dict[str, Any] = {"vocab_size": 1024, "max_seq_len": 64, "mixers": (AttentionConfig(n_heads=4),)}
    return TransformerConfig(d_model=d_model, n_layers=n_layers, feed_forwards=(PlainConfig(d_ff=4 * d_model),), **common, **parts)


def tale_optimizer(rate: float, others: float) -> Muon:
    """Muon for matrices at one rate and AdamW for all else at another, neither with decay."""
    return Muon(learning_rate=rate, weight_decay=0.0, others=AdamW(learning_rate=others, weight_decay=0.0))


def tale_contrast(name: str, title: str, trials: Iterable[Trial], *, steps: int, seed: int) -> Recipe:
    """A recipe that sets trials on such models side by side, all on the same tales."""
    tales = tale_tokens(seed=seed)
    contrast = Contrast(
        name=name, title=title, tokenizer=tales.tokenizer, tokens=tales.read, held_out=tales.unread, trials=tuple(trials), max_seq_len=64,
        batch_tokens=1024, steps=steps, seed=seed,
    )
    return Recipe(name=name, wanted=(contrast,))
