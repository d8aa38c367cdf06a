"""The whole way at the smallest size that still passes through every kind of stage: seconds on one core."""

from __future__ import annotations

from bloomery.data import Cut, Fit
from bloomery.data.encodings import Chat
from bloomery.models import LlamaConfig
from bloomery.recipe import Recipe
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.export import Export
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.report import Report
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.text.readers import TaleConversations, TaleStories
from bloomery.text.tales import Tales


def tiny(*, steps: int = 60, stories: int = 400) -> Recipe:
    """Stories, a tokenizer, two trainings, an examination, an export and a report."""
    corpus = Prepare(name="stories", source=TaleStories(count=stories), held_out=0.1, shard_bytes=64 << 10)
    talks = Prepare(name="talks", source=TaleConversations(tales=Tales(size="tiny"), first=stories, count=60, questions=2))
    exam = Prepare(name="exam", source=TaleConversations(tales=Tales(split="held_out"), count=4, questions=2))
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=400)
    told = Tokenize(name="told", corpus=corpus, tokenizer=tokenizer)
    unread = Tokenize(name="unread", corpus=corpus, tokenizer=tokenizer, split="held_out")
    spoken = Tokenize(name="spoken", corpus=talks, tokenizer=tokenizer, encoding=Chat())
    model = LlamaConfig(vocab_size=400, d_model=32, n_layers=2, n_heads=2, max_seq_len=512)
    watch = Watch(held_out=(unread,), prompts=("One day",), every=20, tokens=2048, max_new_tokens=4)
    shape = {"tokenizer": tokenizer, "max_seq_len": 128, "batch_tokens": 512, "watch": watch}
    base = Train(name="base", init=Scratch(model=model), sources=(Share(tokens=told),), packing=Cut(), steps=steps, ema=0.9, **shape)
    chat = Train(
        name="chat", init=Continue(base=base), sources=(Share(tokens=spoken), Share(tokens=told)), packing=Fit(), steps=steps,
        **shape | {"max_seq_len": 256},  # in which there is room for answers
    )  # fmt: skip
    exams = tuple(Evaluate(name=t.name, model=t, questions=exam, max_new_tokens=4) for t in (base, chat))
    report = Report(title="Tiny", trainings=(base, chat), examinations=exams)
    return Recipe(name="tiny", wanted=(Export(model=chat), report))
