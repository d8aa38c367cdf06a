"""From nothing to a model that answers questions about stories it has never read, on a bare CPU in minutes."""

from __future__ import annotations

from bloomery.core.units import human_count
from bloomery.data import Fit
from bloomery.data.encodings import Chat
from bloomery.models import LlamaConfig
from bloomery.nn import WiredInit
from bloomery.optim import AdamW, Muon
from bloomery.recipe import Recipe
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.report import Report
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train, Watch
from bloomery.text.chat import ChatTemplate
from bloomery.text.readers import TaleConversations, TaleStories
from bloomery.text.tales import Tales

VOCABULARY = 1280
PER_TALE = 6  # questions


def quickstart(
    *, stories: int = 16_000, talks: int = 20_000, base_steps: int = 600, chat_steps: int = 1300, d_model: int = 128, n_layers: int = 4,
    questions: int = 480, seed: int = 0,
) -> Recipe:
    """Short tales of a farm and a harbour: pre-training, instruction tuning, and an examination in worlds never seen."""
    read, unread = Tales(seed=seed, size="short"), Tales(seed=seed, size="short", split="held_out")
    n_exam = questions // PER_TALE
    corpus = Prepare(name="stories", source=TaleStories(tales=read, count=stories))
    talk = Prepare(name="talks", source=TaleConversations(tales=read, first=stories, count=talks, questions=PER_TALE))
    exam = Prepare(name="exam", source=TaleConversations(tales=unread, count=n_exam, questions=PER_TALE))
    fresh = Prepare(name="unread", source=TaleStories(tales=unread, first=n_exam, count=400))

    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=VOCABULARY, sample_bytes=4 << 20)
    story_tokens = Tokenize(name="stories", corpus=corpus, tokenizer=tokenizer)
    fresh_tokens = Tokenize(name="unread", corpus=fresh, tokenizer=tokenizer)
    talk_tokens = Tokenize(name="talks", corpus=talk, tokenizer=tokenizer, encoding=Chat())

    model = LlamaConfig(
        vocab_size=VOCABULARY, d_model=d_model, n_layers=n_layers, n_heads=4, d_ff=352, max_seq_len=512, init=WiredInit(embedding=0.4),
    )  # fmt: skip
    base = Train(
        name="base", init=Scratch(model=model), sources=(Share(tokens=story_tokens),), batch_tokens=2048, steps=base_steps,
        optimizer=Muon(learning_rate=3e-3, weight_decay=0.0, others=AdamW(learning_rate=1e-2, weight_decay=0.0)),
        watch=Watch(held_out=(fresh_tokens,), prompts=("One windy day",)),
        tokenizer=tokenizer, packing=Fit(), max_seq_len=256, seed=seed,
    )  # fmt: skip
    example = "In the barn was the farmer Ada Reed with a red net. In the garden stood Tom Moss the cook.\n\nWhere is Ada Reed now?"
    chat = Train(
        name="chat", init=Continue(base=base), sources=(Share(tokens=talk_tokens),), batch_tokens=2048, steps=chat_steps,
        optimizer=Muon(learning_rate=2e-3, weight_decay=0.0, others=AdamW(learning_rate=5e-3, weight_decay=0.0)),
        watch=Watch(prompts=(example,), template=ChatTemplate()),
        tokenizer=tokenizer, packing=Fit(), max_seq_len=256, seed=seed,
    )  # fmt: skip
    asked = {"questions": exam, "limit": questions}
    before, after = Evaluate(name="before_tuning", model=base, **asked), Evaluate(name="after_tuning", model=chat, **asked)
    title = f"Quickstart: a model of {human_count(model.n_params)} parameters that reads short tales"
    report = Report(name="quickstart", title=title, trainings=(base, chat), examinations=(before, after))
    return Recipe(name="quickstart", wanted=(report, chat))
