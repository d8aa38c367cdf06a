"""The tales as tokens: what the small recipes that compare things train on, alike for all of them."""

from __future__ import annotations

from dataclasses import dataclass

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
