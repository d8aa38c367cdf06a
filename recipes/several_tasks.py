"""Three tasks about short tales, each learnt by a model of its own and all by one: summaries, which sentence fits, what kind a question is."""

from __future__ import annotations

from bloomery.data import Fit, NextToken, TellLabels
from bloomery.data.alike import Matches
from bloomery.data.labelled import Classes
from bloomery.data.rewrites import Rewrites
from bloomery.models import LlamaConfig, SequenceClassificationConfig, SimilarityConfig, TaskHeadConfig
from bloomery.nn import LastPoolingConfig, MeanPoolingConfig, WiredInit
from bloomery.objectives import CausalLM, Combined, HeadCrossEntropy, InfoNCE, Objective
from bloomery.optim import AdamW, Muon
from bloomery.recipe import Recipe
from bloomery.stages.examine import Examine
from bloomery.stages.heads import HeadsOn
from bloomery.stages.init import Continue, Scratch
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.text.readers import TaleRows, TaleStories
from bloomery.text.tales import KINDS, Tales

VOCABULARY = 1024
STORY = 256  # tokens of one at most


def several_tasks(
    *, stories: int = 4000, rows: int = 3000, asked: int = 200, base_steps: int = 200, steps: int = 60, d_model: int = 96, n_layers: int = 3,
    temperature: float = 0.05, seed: int = 0,
) -> Recipe:
    """Reads tales, then learns to summarise them, to tell which sentence fits which, and what kind a question is: one by one, and at once.

    All learn as many rows of each task; what has learnt them at once has therefore taken three times as many steps.
    """
    read, unread = Tales(seed=seed, size="short"), Tales(seed=seed, size="short", split="held_out")
    corpus = Prepare(name="stories", source=TaleStories(tales=read, count=stories))
    made = {
        "learnt": Prepare(name="learnt", source=TaleRows(tales=read, first=stories, count=rows)),
        "asked": Prepare(name="asked", source=TaleRows(tales=unread, count=asked)),
    }
    tokenizer = TrainTokenizer(corpora=(corpus,), vocab_size=VOCABULARY, sample_bytes=4 << 20)
    tokens = Tokenize(name="stories", corpus=corpus, tokenizer=tokenizer)
    encodings = {
        "summary": Rewrites(source="story", target="summary", max_source=STORY, max_target=64),
        "fits": Matches(head="fits", anchor="story", positive="true", negatives=("false",), max_tokens=STORY),
        "kind": Classes(head="kind", text="question", label="kind", classes=KINDS, max_tokens=32),
    }
    objectives: dict[str, Objective] = {
        "summary": CausalLM(), "fits": InfoNCE(head="fits", temperature=temperature), "kind": HeadCrossEntropy(head="kind"),
    }

    def encoded(task: str, part: str) -> Tokenize:
        return Tokenize(name=f"{task}_{part}", corpus=made[part], tokenizer=tokenizer, encoding=encodings[task])

    model = LlamaConfig(
        vocab_size=VOCABULARY, d_model=d_model, n_layers=n_layers, n_heads=4, d_ff=11 * d_model // 4, max_seq_len=2 * STORY,
        init=WiredInit(embedding=0.4),
    )  # fmt: skip
    base = Train(
        name="base", tokenizer=tokenizer, init=Scratch(model=model), sources=(Share(tokens=tokens),), packing=Fit(), max_seq_len=STORY,
        batch_tokens=2048, steps=base_steps, seed=seed,
        optimizer=Muon(learning_rate=3e-3, weight_decay=0.0, others=AdamW(learning_rate=1e-2, weight_decay=0.0)),
    )  # fmt: skip
    heads: dict[str, TaskHeadConfig] = {
        "fits": SimilarityConfig(name="fits", pooling=MeanPoolingConfig()),
        "kind": SequenceClassificationConfig(name="kind", n_labels=len(KINDS), pooling=LastPoolingConfig()),
    }

    def learnt(name: str, *tasks: str) -> Train:
        told, writes = tuple(heads[task] for task in tasks if task in heads), "summary" in tasks
        task = TellLabels(
            classes=tuple(head for head in tasks if head == "kind"), matches=tuple(head for head in tasks if head == "fits"),
            learns="unlabelled" if writes else "all",
        ) if told else NextToken()  # fmt: skip
        return Train(
            name=name, tokenizer=tokenizer, sources=tuple(Share(tokens=encoded(task, "learnt")) for task in tasks), packing=Fit(), task=task,
            init=HeadsOn(init=Continue(base=base), heads=told, language_head=writes) if told else Continue(base=base),
            objective=Combined(terms=tuple((1.0, objectives[task]) for task in tasks)), max_seq_len=2 * STORY, batch_tokens=2048,
            steps=steps * len(tasks), seed=seed,
            optimizer=Muon(learning_rate=2e-3, weight_decay=0.0, others=AdamW(learning_rate=5e-3, weight_decay=0.0)),
        )  # fmt: skip

    together = learnt("together", *encodings)
    alone = {task: learnt(f"{task}_alone", task) for task in encodings}
    examined = [
        Examine(name=f"{task}_{name}", model=model, rows=encoded(task, "asked"))
        for task in encodings for name, model in (("alone", alone[task]), ("together", together))
    ]  # fmt: skip
    return Recipe(name="several_tasks", wanted=tuple(examined))
