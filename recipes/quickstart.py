"""From nothing to a model that answers questions about stories it has never read, on a bare CPU in minutes."""

from __future__ import annotations

from bloomery.data import Fit
from bloomery.data.encodings import Chat
from bloomery.models import LlamaConfig
from bloomery.optim import AdamW, Muon, WarmupCosine
from bloomery.recipe import Recipe
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Continue, Scratch, Share, Train, Watch
from bloomery.text.chat import ChatTemplate
from bloomery.text.readers import TaleConversations, TaleStories
from bloomery.text.tales import Tales


def quickstart(
    *, stories: int = 12_000, talks: int = 6_000, base_steps: int = 900, chat_steps: int = 500, d_model: int = 128, n_layers: int = 4,
    learning_rate: float = 6e-3, questions: int = 500, seed: int = 0,
) -> Recipe:
    """Tales of a farm and a harbour: pre-training, instruction tuning, and an examination in worlds never seen."""
    new = Tales(seed=seed, split="held_out")
    corpus = Prepare(name="stories", source=TaleStories(tales=Tales(seed=seed), count=stories))
    talk = Prepare(name="talks", source=TaleConversations(tales=Tales(seed=seed), first=stories, count=talks, questions=6))
    unread = Prepare(name="unread", source=TaleStories(tales=new, count=400))
    exam = Prepare(name="exam", source=TaleConversations(tales=new, first=400, count=questions // 6 + 1, questions=6))

    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=1024, sample_bytes=4 << 20)
    tokens = {p.name: Tokenize(name=p.name, corpus=p, tokenizer=tokenizer) for p in (corpus, unread)}
    talk_tokens = Tokenize(name="talks", corpus=talk, tokenizer=tokenizer, encoding=Chat())

    optimizer = Muon(learning_rate=learning_rate, others=AdamW(learning_rate=3e-3))
    base = Train(
        name="base", tokenizer=tokenizer, seed=seed, optimizer=optimizer, schedule=WarmupCosine(), packing=Fit(),
        init=Scratch(model=LlamaConfig(vocab_size=1024, d_model=d_model, n_layers=n_layers, n_heads=d_model // 32, max_seq_len=512)),
        sources=(Share(tokens=tokens["stories"]),), max_seq_len=256, batch_tokens=2048, steps=base_steps,
        watch=Watch(held_out=(tokens["unread"],), prompts=("On a windy day",), every=300),
    )
    chat = Train(
        name="chat", tokenizer=tokenizer, seed=seed, optimizer=optimizer, schedule=WarmupCosine(), packing=Fit(), init=Continue(base=base),
        sources=(Share(tokens=talk_tokens),), max_seq_len=256, batch_tokens=2048, steps=chat_steps,
        watch=Watch(held_out=(tokens["unread"],), prompts=("Where is the lamp?",), every=250, template=ChatTemplate()),
    )
    before = Evaluate(name="before", model=base, questions=exam, limit=questions)
    after = Evaluate(name="after", model=chat, questions=exam, limit=questions)
    return Recipe(name="quickstart", wanted=(before, after))
