"""Synthetic data: few seeds, a generator that writes more, checks, and what students learn of checked and of unchecked rows."""

from __future__ import annotations

from typing import Any

from bloomery.data import Fit
from bloomery.data.encodings import Chat
from bloomery.generate import Greedy, Random
from bloomery.models import LlamaConfig
from bloomery.nn import WiredInit
from bloomery.recipe import Recipe
from bloomery.recipe.tales import tale_optimizer
from bloomery.stages.evaluate import Evaluate
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.left_by import LeftBy
from bloomery.stages.prepare import Prepare
from bloomery.stages.synthesis import Answered, Judged, Ours, Synthesize
from bloomery.stages.synthesis.compared import RowSet, SetsCompared, TaleTruth
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.filters import AskBack, Asked, Decontaminate, Length, ReadDrafts
from bloomery.text.instructions import FewShot
from bloomery.text.readers import TaleConversations, TaleStories
from bloomery.text.tales import Tales

VOCABULARY, TIME, PER_TALE = 1280, 256, 6


def synthetic(
    *, base_steps: int = 400, seed_talks: int = 600, seed_steps: int = 400, drafts: int = 4000, student_steps: int = 250, questions: int = 600,
    students: int = 3, seed: int = 0,
) -> Recipe:
    """A small base and a few seeds; a generator taught by the seeds asks and answers about tales that nobody has asked about; each draft is
    checked in its form, its length, against its like, against the examination, and by a second model that answers the question itself.

    Students go on from the base and read rows that were checked, or as many that were not; beside them, others read the seeds alone.
    """
    book, unread = Tales(seed=seed, domain="farm", size="tiny"), Tales(seed=seed, domain="farm", size="tiny", split="held_out")
    stories = Prepare(name="stories", source=TaleStories(tales=book, count=8000))
    taught = TaleConversations(tales=book, first=8000, count=seed_talks, questions=PER_TALE)
    examined = TaleConversations(tales=unread, count=questions // PER_TALE, questions=PER_TALE)
    seeds, exam = Prepare(name="seeds", source=taught), Prepare(name="exam", source=examined)
    lessons = Prepare(name="lessons", source=taught, filters=(AskBack(),))
    about = Prepare(name="about", source=TaleStories(tales=book, first=20_000, count=drafts))
    tokenizer = TrainTokenizer(corpora=(stories,), vocab_size=VOCABULARY, sample_bytes=4 << 20)

    def tokens(corpus: Prepare, **fields: Any) -> Tokenize:
        return Tokenize(name=corpus.name, corpus=corpus, tokenizer=tokenizer, **fields)

    model = LlamaConfig(
        vocab_size=VOCABULARY, d_model=96, n_layers=3, n_heads=4, d_ff=264, max_seq_len=2 * TIME, init=WiredInit(embedding=0.4),
    )  # fmt: skip
    common: dict[str, Any] = {"tokenizer": tokenizer, "packing": Fit(), "max_seq_len": TIME}
    base = Train(
        name="base", init=Scratch(model=model), sources=(Share(tokens=tokens(stories)),), steps=base_steps, batch_tokens=2048, seed=seed,
        optimizer=tale_optimizer(3e-3, 1e-2), **common,
    )  # fmt: skip

    def tuned(name: str, *corpora: Prepare, steps: int, number: int = 0) -> Train:
        shares = tuple(Share(tokens=tokens(corpus, encoding=Chat())) for corpus in corpora)
        return Train(
            name=name, init=Continue(base=base), sources=shares, steps=steps, batch_tokens=1024, seed=seed + number,
            optimizer=tale_optimizer(2e-3, 5e-3), **common,
        )  # fmt: skip

    generator, answerer = tuned("generator", lessons, steps=seed_steps), tuned("answerer", seeds, steps=seed_steps, number=1)
    drafted = Synthesize(
        name="drafts", seeds=seeds, about=about, generator=Ours(model=generator, sampler=Random(temperature=1.0)), prompt=FewShot(shots=0),
        count=drafts, seed=seed, licence="made by a model of ours from tales of our own, both under the licence of this repository",
    )  # fmt: skip
    unverified = Prepare(name="read", source=LeftBy(stage=drafted), filters=(ReadDrafts(),))
    checked = Prepare(
        name="checked", source=LeftBy(stage=drafted), known=(seeds,),
        filters=(ReadDrafts(), Length(min_chars=40, max_chars=1000), Asked(), Decontaminate(tests=(examined,))),
    )  # fmt: skip
    judge = Answered(name="answered", corpus=checked, by=Ours(model=answerer, sampler=Greedy(), max_new_tokens=24))
    verified = Prepare(name="verified", source=LeftBy(stage=checked), filters=(Judged(by=judge),))
    as_many = Prepare(name="unverified", source=LeftBy(stage=unverified, as_many_as=verified), filters=(Length(),))

    def row_set(name: str, label: str, *corpora: Prepare, truth: TaleTruth | None = None) -> RowSet:
        runs = [tuned(f"{name}_{i}", *corpora, steps=student_steps, number=10 + i) for i in range(students)]
        return RowSet(name=label, exams=tuple(Evaluate(name=run.name, model=run, questions=exam, limit=questions) for run in runs), truth=truth)

    def truth(corpus: Prepare) -> TaleTruth:
        return TaleTruth(name=corpus.name, corpus=corpus, tales=book)

    compared = SetsCompared(
        name="synthetic", title="What synthetic rows are worth, checked and unchecked",
        sets=(
            row_set("seeds", "seeds alone", seeds),
            row_set("unchecked", "unverified", as_many, truth=truth(as_many)),
            row_set("verified", "verified", verified, truth=truth(verified)),
        ),
    )  # fmt: skip
    return Recipe(name="synthetic", wanted=(truth(checked), compared))
